package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	const in = `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:1: what broke\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:2: needs age\n"}
{"Action":"output","Package":"p","Test":"B","Output":"--- SKIP: B\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"C","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"C"}
{"Action":"fail","Package":"p"}
`
	var out strings.Builder
	if code := summarize(strings.NewReader(in), &out); code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"--- FAIL: p A", "what broke", "SKIP p B: b_test.go:2: needs age", "1 passed, 1 failed, 1 skipped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "noise") {
		t.Error("a passed test's words are shown")
	}
	if summarize(strings.NewReader(""), &out) != 1 {
		t.Error("no test at all is no success")
	}
}
