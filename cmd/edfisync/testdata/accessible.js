// What a page must keep so that everybody can use it (WCAG 2.2 AA, as far as a program can tell). Returns what it does not.
(() => {
  const wrong = [];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const shown = (e) => e.checkVisibility({ contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true });
  const name = (e) => `<${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}${e.className && e.className.baseVal === undefined ? "." + String(e.className).replaceAll(" ", ".") : ""}> ${(e.textContent || e.name || "").trim().slice(0, 40)}`;

  // The document: language, title, landmarks, headings in order.
  if (!document.documentElement.lang) wrong.push("the document has no language");
  if (!document.title.trim()) wrong.push("the document has no title");
  if (all("main").length !== 1) wrong.push(`${all("main").length} main landmarks`);
  if (!document.documentElement.classList.contains("bare")) {
    if (all("body > header").length !== 1 || all("body > footer").length !== 1) wrong.push("header or footer is missing");
    const first = document.querySelector("a, button, input");
    if (!first?.matches("a[href='#main']")) wrong.push("the first control does not skip to the content");
    for (const e of document.body.children) if (!e.matches("header, main, footer, a.skip")) wrong.push("outside of landmarks: " + name(e));
  }
  const navs = all("nav");
  if (new Set(navs.map((n) => n.getAttribute("aria-label"))).size !== navs.length) wrong.push("two navigations have one name, or none");
  if (all("h1").filter(shown).length !== 1) wrong.push(`${all("h1").length} headings of level 1`);
  let level = 0;
  for (const h of all("h1, h2, h3, h4, h5, h6")) {
    const now = Number(h.tagName[1]);
    if (now > level + 1) wrong.push(`a heading of level ${now} follows one of level ${level}: ${name(h)}`);
    if (!h.textContent.trim()) wrong.push("an empty heading: " + name(h));
    level = now;
  }

  // References and ids.
  const ids = all("[id]").map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("two elements have the id " + id);
  for (const attribute of ["for", "aria-labelledby", "aria-describedby"]) {
    for (const e of all(`[${attribute}]`)) for (const id of e.getAttribute(attribute).split(" ")) if (!document.getElementById(id)) wrong.push(`${attribute} names ${id}, which is not there: ${name(e)}`);
  }

  // Names of controls and pictures.
  const label = (e) => (e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" ")
    || (e.labels ? [...e.labels].map((l) => l.textContent).join(" ") : "") || (e.matches("input, select, textarea, progress") ? "" : e.textContent) || e.title || "").trim();
  for (const e of all("a[href], button, input:not([type=hidden]), select, textarea, summary, progress, [tabindex='0'], [role=img]")) if (shown(e) && !label(e)) wrong.push("has no name: " + name(e) + " " + e.outerHTML.slice(0, 120));
  for (const e of all("img")) if (!e.hasAttribute("alt")) wrong.push("a picture has no alternative: " + name(e));
  for (const e of all("svg")) if (!e.closest("[aria-hidden]") && e.getAttribute("role") !== "img") wrong.push("a drawing has no role: " + name(e));
  for (const e of all("[tabindex]")) if (e.tabIndex > 0) wrong.push("changes the order of tabs: " + name(e));
  for (const t of all("table")) {
    for (const th of all("th", t)) if (!th.scope) wrong.push("a header cell has no scope: " + name(th));
    if (!t.caption && !t.closest("section[aria-labelledby]")) wrong.push("a table has neither caption nor section: " + name(t));
    const wide = t.rows[0]?.cells.length;
    for (const row of t.rows) if (row.cells.length !== wide) wrong.push(`a row has ${row.cells.length} cells, its table ${wide} columns: ${name(row)}`);
  }

  // Contrast of text and of the borders of fields, with the colours as they are drawn.
  const colour = (text) => { const m = text.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/); return m ? [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]] : null; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const c = colour(getComputedStyle(at).backgroundColor);
      if (c && c[3] > 0) layers.push(c);
      if (c && c[3] === 1) break;
    }
    return layers.reduceRight((under, c) => over(c, under), matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  for (let t = texts.nextNode(); t; t = texts.nextNode()) {
    const e = t.parentElement;
    if (!t.data.trim() || !shown(e) || e.closest("title, script, noscript, .hidden, .skip:not(:focus)")) continue;
    const style = getComputedStyle(e), inDrawing = e.namespaceURI.endsWith("svg");
    const ink = colour(inDrawing ? style.fill : style.color);
    if (!ink) { wrong.push("a colour cannot be read: " + style.color); continue; }
    const ground = behind(inDrawing ? e.closest("svg") : e), size = parseFloat(style.fontSize), least = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700) ? 3 : 4.5;
    const got = ratio(over(ink, ground), ground);
    looked++;
    if (got < least) wrong.push(`contrast ${got.toFixed(2)}, want ${least}: ${name(e)}`);
  }
  if (looked < 5) wrong.push(`the contrast of ${looked} texts was looked at`);
  for (const e of all("input:not([type=hidden]):not([type=checkbox]), select, textarea")) {
    if (!shown(e)) continue;
    const got = ratio(over(colour(getComputedStyle(e).borderTopColor), behind(e.parentElement)), behind(e.parentElement));
    if (got < 3) wrong.push(`the border has contrast ${got.toFixed(2)}: ${name(e)}`);
    const hint = colour(getComputedStyle(e, "::placeholder").color);
    if (e.placeholder && hint && ratio(over(hint, behind(e)), behind(e)) < 4.5) wrong.push(`the example has contrast ${ratio(over(hint, behind(e)), behind(e)).toFixed(2)}: ${name(e)}`);
  }
  for (const e of all(".history .bar rect:not(.all)")) {
    const ground = behind(e.closest("svg")), got = ratio(colour(getComputedStyle(e).fill), ground);
    if (got < 3) wrong.push(`a bar has contrast ${got.toFixed(2)}: ${e.getAttribute("class")}`);
  }

  // Size of what is clicked, focus that can be seen, regions that scroll.
  for (const e of all("button, .button, input:not([type=hidden]), select, textarea, summary, .tallies a")) {
    const box = e.getBoundingClientRect();
    if (shown(e) && !e.closest(".hidden") && (box.width < 24 || box.height < 24)) wrong.push(`is ${Math.round(box.width)} by ${Math.round(box.height)}: ${name(e)}`);
  }
  const before = document.activeElement;
  for (const e of all("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
    if (!shown(e)) continue;
    e.focus({ focusVisible: true, preventScroll: true });
    if (document.activeElement !== e) { wrong.push("takes no focus: " + name(e)); continue; }
    const style = getComputedStyle(e);
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2 || ratio(over(colour(style.outlineColor), behind(e.parentElement)), behind(e.parentElement)) < 3) wrong.push("focus cannot be seen: " + name(e));
  }
  before?.focus?.({ preventScroll: true });
  for (const e of all("body *")) {
    if (!shown(e) || !/auto|scroll/.test(getComputedStyle(e).overflowY + getComputedStyle(e).overflowX)) continue;
    if ((e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1) && e.tabIndex < 0 && !e.querySelector("a[href], button")) wrong.push("scrolls, and no key reaches it: " + name(e));
  }
  return wrong.slice(0, 30);
})()
