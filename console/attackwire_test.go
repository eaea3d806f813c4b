package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
)

// A request whose length a proxy may read in another way than we do is refused, and the connection closed: nothing after it is taken for a request.
func TestNoRequestHidesInAnother(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{ReadHeader: time.Second, Idle: time.Second})
	admin := a.key(console.NewKey{Role: "admin"})
	hidden := "DELETE /api/v1/keys/" + a.own["default"].key + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + admin + "\r\nContent-Length: 0\r\n\r\n"
	post := "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden)+5)
	cases := []struct{ name, text string }{
		{"a length and chunks", post + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunks and a length", post + "Transfer-Encoding: chunked\r\n" + length + "\r\n0\r\n\r\n" + hidden},
		{"a length and chunks, for what is not there", strings.Replace(post, "/api/v1/session", "/nowhere", 1) + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"a length and chunks, without a key", strings.Replace(post, "/api/v1/session", "/api/v1/keys", 1) + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"two lengths", post + "Content-Length: 0\r\n" + length + "\r\n" + hidden},
		{"two lengths in one", post + "Content-Length: 0, 200\r\n\r\n" + hidden},
		{"a length with a sign", post + "Content-Length: +0\r\n\r\n" + hidden},
		{"a length in other digits", post + "Content-Length: 0x0\r\n\r\n" + hidden},
		{"a length before a blank", post + "Content-Length : 0\r\n\r\n" + hidden},
		{"chunks under another name", post + "Transfer-Encoding: xchunked\r\n\r\n" + hidden},
		{"chunks twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunks in two headers", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden},
		{"chunks after a vertical tab", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunks on a line of their own", post + "Transfer-Encoding:\r\n chunked\r\n" + length + "\r\n0\r\n\r\n" + hidden},
		{"chunks in an older version", strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"a chunk of a length that is none", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + hidden},
		{"a chunk of a negative length", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + hidden},
		{"a chunk longer than there are numbers", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + hidden},
		{"a header with a NUL", post + "X-A: a\x00b\r\n\r\n" + hidden},
		{"a header that breaks off in a return", post + "X-A: a\rX-B: b\r\n\r\n" + hidden},
		{"a method with a blank", " " + post + "\r\n" + hidden},
		{"a version there is not", strings.Replace(post, "HTTP/1.1", "HTTP/9.9", 1) + "\r\n" + hidden},
		{"two hosts", strings.Replace(post, "Host: x", "Host: x\r\nHost: y", 1) + "Content-Length: 0\r\n\r\n" + hidden},
		{"no host", strings.Replace(post, "Host: x\r\n", "", 1) + "Content-Length: 0\r\n\r\n" + hidden},
		{"another protocol on the same connection", "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: " +
			fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden},
		{"a tunnel", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nContent-Length: " + fmt.Sprint(len(hidden)) + "\r\n\r\n" + hidden},
	}
	before := a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			got := a.wire(c.text)
			if upgraded := strings.HasPrefix(c.name, "another protocol"); !upgraded && got.status != 0 && got.status < 400 || upgraded && got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
			a.tells(got)
			a.unchanged(before) // the hidden request would have ended a key
		})
	}
	if got := a.wire(hidden); got.status != 200 {
		t.Errorf("what is hidden would not work: %d %s", got.status, got.body)
	}
	attacktest.Played(t, attacktest.LogIn, names(cases, func(c struct{ name, text string }) string { return c.name }))
}
