package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"time"

	"sallyport"
)

// JSON writes the document and returns the digest of what it wrote, which is
// the report's name in the audit log.
func JSON(w io.Writer, d Document) (sallyport.Digest, error) {
	b, err := encode(d)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(b); err != nil {
		return "", sallyport.E("write report", sallyport.Unavailable, err, "See that the disk has room.")
	}
	return sallyport.DigestOf(b), nil
}

func encode(d Document) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, sallyport.E("write report", sallyport.Invalid, err, "Use only strings, numbers, booleans and lists as arguments.")
	}
	return b.Bytes(), nil
}

//go:embed page.gohtml
var page string

// HTML writes the document as one page that needs nothing from outside: no
// script, no font, no picture. The page shows the digest of the JSON, which it
// returns too.
func HTML(w io.Writer, d Document) (sallyport.Digest, error) {
	b, err := encode(d)
	if err != nil {
		return "", err
	}
	digest := sallyport.DigestOf(b)
	t, err := template.New("report").Funcs(template.FuncMap{
		"n": thousands, "percent": percent, "chance": percent, "list": list, "number": decimal,
		"signed": signed, "word": word, "plural": plural,
		"len64": func(jobs []sallyport.JobID) int64 { return int64(len(jobs)) },
		"width": func(share float64) string { return place(100 * min(1, max(0, share))) },
		"when":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	}).Parse(page)
	if err != nil {
		return "", sallyport.E("write report", sallyport.Internal, err, "")
	}
	var out bytes.Buffer // a page that breaks off half-way says too little
	if err := t.Execute(&out, view{Document: d, Digest: digest, Histogram: histogram(d.Risk), Attackers: attackers(d.Risk)}); err != nil {
		return "", sallyport.E("write report", sallyport.Internal, err, "")
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return "", sallyport.E("write report", sallyport.Unavailable, err, "See that the disk has room.")
	}
	return digest, nil
}

// view is what the page is drawn from.
type view struct {
	Document
	Digest    sallyport.Digest
	Histogram plot
	Attackers plot
}

func decimal(v float64) string { return fmt.Sprintf("%.3f", v) }

// signed writes a difference of shares in percentage points.
func signed(v float64) string { return fmt.Sprintf("%+.2f", 100*v) }

// word is a role or identifier, or a dash where nobody said.
func word(s any) string {
	if t := fmt.Sprint(s); t != "" {
		return t
	}
	return "–"
}
