package schema

import (
	"strings"
	"sync"
	"unicode"
)

// Vocabulary reports whether a name consists of words that names of the bundled data standards are made of: "schoolId", "BellScheduleClassPeriods",
// "_ext". Whoever takes names out of texts of strangers asks it, so that nothing passes for a name that is somebody's (I14). It may be called
// concurrently; the first call reads the catalogs.
func Vocabulary(name string) bool {
	if name == "_ext" {
		return true
	}
	known, some := vocabulary(), false
	for word := range camelWords(name) {
		if !known[word] {
			return false
		}
		some = true
	}
	return some
}

var vocabulary = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{"id": true, "key": true, "value": true, "usi": true}
	add := func(name string) {
		for word := range camelWords(name) {
			words[word] = true
		}
		words[strings.ToLower(name)] = true // as version 5 of the API writes entities
	}
	for _, version := range BundledVersions() {
		m, err := Bundled(version)
		if err != nil {
			continue // fewer words are known, and fewer names pass
		}
		for _, r := range m.Resources {
			add(r.Name)
			add(r.Extends)
			add(r.Path[strings.IndexByte(r.Path, '/')+1:])
			r.Root.walk("", func(_ string, p *Property) { add(p.Name); add(p.Target) })
		}
	}
	return words
})

// camelWords yields the words of a name in camel case, in lower case; capitals in a row are one word, but for the last when a small letter follows
// ("IEPGoal": "iep", "goal"). A character that is no letter is part of the word it is in, which is none then.
func camelWords(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		runes, start := []rune(name), 0
		for i := 1; i <= len(runes); i++ {
			ends := i == len(runes)
			if !ends && unicode.IsUpper(runes[i]) {
				ends = !unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])
			}
			if ends {
				if !yield(strings.ToLower(string(runes[start:i]))) {
					return
				}
				start = i
			}
		}
	}
}
