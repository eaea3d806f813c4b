package config

import "testing"

func TestOriginsAreWrittenAsBrowsersDo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://sis.example.org": true, "http://localhost:3000": true, "https://sis.example.org:8443": true, "https://[2001:db8::1]:8443": true,
		"": false, "sis.example.org": false, "https://sis.example.org/": false, "https://sis.example.org/app": false, "https://*.example.org": false, "*": false, "'self'": false,
		"https://a.example; script-src *": false, "https://a.example https://b.example": false, "javascript:alert(1)": false, "https://user@sis.example.org": false, "https://": false,
	} {
		if got := isOrigin(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
