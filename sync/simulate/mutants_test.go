package simulate

// mutant is one defect put into the source, to see that the simulation finds it (T5). The text is replaced through go test -overlay; nothing
// of it is in the program.
type mutant struct {
	name  string
	edits []textEdit
}

type textEdit struct {
	file string // from the root of the module
	old  string // must be there exactly once
	new  string
}

func defect(name, file, old, changed string) mutant {
	return mutant{name, []textEdit{{file, old, changed}}}
}

// and adds an edit to a defect that needs several.
func (m mutant) and(file, old, changed string) mutant {
	m.edits = append(m.edits, textEdit{file, old, changed})
	return m
}

// mutants are the five mechanisms of docs/guarantees.md, the defects of other synchronisers as far as an engine can have them, and what is easily
// got wrong besides.
func mutants() []mutant {
	return []mutant{
		// The five mechanisms.
		defect("a create without a durable intent", "sync/batch.go", "s.st.Position, intents, results); err != nil {", "s.st.Position, nil, results); err != nil {"),
		defect("a lost update keeps its old hash", "syncdb/settle.go", "	case EffectUnknown:\n", "	case EffectUnknown:\n		if in.Verb == Update {\n			return at, old\n		}\n"),
		defect("a lost delete is taken for not made", "syncdb/settle.go", "	case EffectUnknown:\n", "	case EffectUnknown:\n		if in.Verb == Delete {\n			return at, old\n		}\n"),
		defect("invalid is absent", "sync/mapper.go", "r.heldSource[m.sources[i]] = struct{}{} // I5f: invalid is not absent", "if m.keys[i].IsZero() {\n				continue\n			}\n			m.keys[i] = syncdb.Hash{}"),
		defect("the id of a live row is deleted", "sync/evidence.go", "case s.x.ownedByRow(s.r, entry.EdfiID):", "case false:"),
		// What other synchronisers get wrong.
		defect("a failed record is taken for sent", "sync/judge.go", "	return ruling{effect: openEffect(e), outcome: Failed}\n}", "	return ruling{effect: syncdb.EffectLive, outcome: Failed}\n}"),
		defect("intents of a dead process are forgotten", "syncdb/memdb/journal.go", "	c.settle(open)\n", ""),
		defect("a cancel forgets the calls under way", "sync/answer.go", "over = s.x.ctx.Err() != nil && neverSent(err)", "over = s.x.ctx.Err() != nil"),
		defect("nothing is ever deleted", "sync/feed.go", "		if r.gone.count > 0 {", "		if false {"),
		defect("calls leave before their intents", "sync/batch.go", "	intents := make([]syncdb.Intent, 0, len(b.ops))", "	b.left.Add(len(b.ops))\n	s.open = append(s.open, b)\n	s.staff()\n	s.open = s.open[:len(s.open)-1]\n	for _, o := range b.ops {\n		s.work <- o\n	}\n	b.left.Wait()\n	intents := make([]syncdb.Intent, 0, len(b.ops))"),
		defect("two processes sync one connection", "syncdb/memdb/runs.go", "if until := c.lease.expires.Add(d.grace); until.After(now) {", "if until := c.lease.expires.Add(d.grace); until.After(now) && now.IsZero() {"),
		defect("429 is final", "edfi/verdict.go", `verdict{"too-many-requests", Transient, OwnerTarget, "the target limits the rate of requests",`, `verdict{"too-many-requests", Rejected, OwnerMapping, "the target limits the rate of requests",`),
		defect("a lost answer means nothing was sent", "edfi/call.go", "	e.Sent = true\n	return e\n}\n\n// certificateProblem", "	e.Sent = false\n	return e\n}\n\n// certificateProblem"),
		defect("the hash is of the raw payload", "sync/mapper.go", "m.records[i] = m.hasher.Sum(m.enc.Body)", "m.records[i] = m.hasher.Sum(m.enc.Wire)"),
		defect("an update without an answer counts as made", "syncdb/settle.go", "	case EffectUnknown:\n", "	case EffectUnknown:\n		if in.Verb == Update {\n			return in.live(Result{}, runID, subject), old\n		}\n"),
		defect("what was put off is forgotten", "sync/feed.go", "		spooled(s.x.deferred[s.st.Resource], syncdb.Create)\n", ""),
		defect("a delete that finds nothing is tried for ever", "sync/judge.go", "		case syncdb.Delete:\n			return ruling{effect: syncdb.EffectGone, outcome: Deleted}\n		case syncdb.Update:\n			return ruling{effect: syncdb.EffectMissing", "		case syncdb.Delete:\n			return ruling{outcome: Rejected}\n		case syncdb.Update:\n			return ruling{effect: syncdb.EffectMissing"),
		// The journal.
		defect("results are never durable", "sync/batch.go", "s.st.Position, intents, results); err != nil {", "s.st.Position, intents, nil); err != nil {"),
		defect("a moved key leaves its old entry", "syncdb/settle.go", "		if moves && subject == old {\n			old = nil\n		}\n", ""),
		defect("an unknown entry passes for live", "sync/scan.go", "		if state == syncdb.Live {", "		if state != 0 {"),
		// Who may write.
		defect("fencing is dropped", "syncdb/memdb/memdb.go", "	if c.lease.token != l.Token || c.lease.runID != l.RunID || l.Token == 0 || !c.lease.expires.After(d.clock()) {", "	if l.Token == 0 {").
			and("sync/lease.go", "	if age+k.callTimeout >= l.TTL {", "	if age < 0 {"),
		defect("a fenced process goes on", "sync/lease.go", "	if age+k.callTimeout >= l.TTL {", "	if age < 0 {"),
		defect("a cancel is not heard", "sync/lease.go", "			stop(ErrCanceled)\n			return", ""),
		// What is deleted.
		defect("deletes do not wait for dependents", "sync/order.go", "				after = append(after, deletes[j])", "				_ = deletes"),
		defect("an empty source deletes everything", "sync/safeguard.go", "	case t.rows == 0: // F38", "	case t.rows < 0:"),
		defect("a broken scan passes for a complete one", "sync/scan.go", `cancel(fmt.Errorf("read rows: %w", err))`, `_ = fmt.Errorf("read rows: %w", err)`),
		defect("records of other clients are deleted", "sync/evidence.go", "case o.met: // I9", "case false:"),
		defect("a record that was there before us is ours", "sync/answer.go", "result.Origin = syncdb.Met // I9: it was there before us", "result.Origin = syncdb.Created"),
		defect("a lost create whose row is gone is forgotten", "sync/settle.go", "l.id, l.err = findByKey(ctx, target,", "_, l.err = findByKey(ctx, target,"),
		defect("a repeated create is not ours", "sync/answer.go", "case answer.Repeated:", "case answer.Repeated && o.known:"),
		defect("a record met by a create is not protected", "sync/answer.go", "		s.x.ids[answer.ID] = struct{}{}\n", ""),
		defect("a 404 page passes for a record that is gone", "edfi/classify.go", "	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusPreconditionFailed, status == http.StatusConflict:\n		return notTheAPI()\n", ""),
		// Tokens. A client that is refused gets another token, so one that is kept too long does no harm by itself: the calls it costs are checked.
		defect("an expired token is kept", "edfi/token.go", "	case now.After(have.deadAt):\n		return t.fetch(ctx, have, false)", "	case now.After(have.deadAt):\n		return have, nil"),
		defect("a refused token is never replaced", "edfi/call.go", "used != nil && !renewed {", "used != nil && !renewed && attempt == 0 {"),
		// What is sent.
		defect("409 is success", "sync/judge.go", "	case edfi.Blocked:\n		return ruling{outcome: Blocked}", "	case edfi.Blocked:\n		return ruling{effect: syncdb.EffectLive, outcome: Updated}"),
		defect("404 is success for a PUT", "sync/judge.go", "return ruling{effect: syncdb.EffectMissing, next: nextCreate}", "return ruling{effect: syncdb.EffectLive, outcome: Updated}"),
		defect("a sign-in page is success", "edfi/call.go", "	return !isHTML(response.Header) && (body[0] == '{' || body[0] == '[')", "	return true"),
		defect("a failure after the commit is a refusal", "edfi/call.go", "return status < 300 || status >= 500 || status == http.StatusRequestTimeout", "return status < 300"),
		defect("a refusal by the host is final", "sync/policy.go", "return owner != byHost", "return owner != \"\""),
		defect("children of a missing parent are sent", "sync/feed.go", "		if !t.Complete {\n			continue", "		if !t.Complete || t.Complete {\n			continue"),
		defect("the last row of a batch is lost", "sync/mapper.go", "	n := b.Len()\n", "	n := b.Len()\n	if n > 6 {\n		n--\n	}\n"),
		defect("of rows with one key each is sent", "sync/mapper.go", "		return duplicateRow, false\n	}\n	t.flags[i] |= slotSeen", "		return changedRow, false\n	}\n	t.flags[i] |= slotSeen").
			and("sync/mapper.go", "			r.dups[key] = struct{}{}\n", ""),
		defect("a record gone at the target is not made again", "sync/answer.go", "		s.again = append(s.again, &again)\n", ""),
		// Records whose keys are known for sure, and what is held.
		defect("lost creates are looked up when their deletes are due", "sync/settle.go", "			of.settle(l)\n			if l.id != \"\" {\n", "			if l.id != l.id {\n").
			and("sync/evidence.go", "			s.refuse(o, Failed, s.r.fates[o.key].err)\n", "			var f fate\n			f.id, f.err = findByKey(s.x.calls, s.x.target, s.r.Resource, s.x.o.Rules, entry.Key, nil)\n			if o.edfiID = f.id; f.id != \"\" {\n				return s.add(o)\n			}\n			if f.err == nil {\n				o.verb, o.silent = syncdb.Create, release\n				return s.add(o)\n			}\n			s.refuse(o, Failed, f.err)\n"),
		defect("records that strayed are not looked for", "sync/stray.go", "		if !known.done {\n", "		if !known.done && of.Resource == nil {\n"),
		defect("rows are compared with the keys before records strayed", "sync/stray.go", "moved = moved || of.in != nil && len(drop) > 0", "moved = moved || of.in == nil && len(drop) < 0"),
		defect("a record that strayed keeps its old key too", "sync/stray.go", "e.dropEntries(ctx, k, path, drop); err != nil", "error(nil); err != nil"),
		defect("a record is given to the row with its key and to the one it was of", "sync/rekey.go", "if !kept && !wanted && !g.source.IsZero() {", "if !kept && (!wanted || wanted) && !g.source.IsZero() {"),
		defect("a hold ends when no limit is passed any more", "sync/safeguard.go", "if w, ok := g.open[key]; ok && w.verb == verb &&", "if w, ok := g.open[key]; ok && w.verb != verb &&"),
		// Keys.
		defect("every key is changed by PUT", "sync/rekey.go", "		case r.KeyUpdatable && !tied.changed(r.Resource, g.text, rec.Key):\n			m.how = movePut", "		default:\n			m.how = movePut"),
		defect("a record that follows its parent is not sent though it changed", "sync/feed.go", "case m.how == moveFollow && !m.changed:", "case m.how == moveFollow:"),
		defect("a key that is still taken is given up", "sync/judge.go", `&& e.Code == "identity-conflict"`, `&& e.Code == "no such code"`),
		defect("a key in another spelling is never updated", "sync/answer.go", "if r.outcome == Rejected && s.respelled(o, err) {", "if false {"),
		defect("the host in Location is trusted", "edfi/location.go", "			c.log.Warn(", "			r.url.Host = host\n			c.log.Warn("),
	}
}
