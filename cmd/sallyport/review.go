package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/control"
)

type jobReviewCmd struct {
	Job string `arg:"" optional:"" help:"The job whose result is reviewed; without it, list what waits."`

	Show    bool   `xor:"act" help:"Show the result, or save it with --out. The look is recorded."`
	Log     bool   `xor:"act" help:"Show what the module said, or save it with --out. The look is recorded."`
	Approve bool   `xor:"act" help:"Agree that the result is given to its researcher."`
	Reject  bool   `xor:"act" help:"Refuse: the result is destroyed."`
	Reason  string `help:"Why; the researcher is told a rejection's."`
	Digest  string `placeholder:"SHA256" help:"Digest of the result that you looked at; refused if another one waits."`
	Out     string `short:"o" placeholder:"FILE" help:"Save there, byte for byte, what --show or --log would print."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (jobReviewCmd) Help() string {
	return `Where policy asks for it, people with the role reviewer or officer look at a
result before its researcher gets it. One rejection ends it.

Examples:

  sallyport job review
  sallyport job review burst --show
  sallyport job review burst --approve --reason "counts only, none below 11"`
}

func (c jobReviewCmd) Run(a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	if c.Job == "" {
		return c.list(a, client)
	}
	r, err := client.Review(a.ctx, sallyport.JobID(c.Job), c.As)
	if err != nil {
		// Asked all the same: that somebody tried is recorded.
		if c.Show || c.Log {
			if f, lookErr := client.LookAtResult(a.ctx, sallyport.JobID(c.Job), c.As, c.Log); lookErr == nil {
				f.Close()
			}
		} else if c.Approve || c.Reject {
			_, _ = client.Opine(a.ctx, sallyport.JobID(c.Job), control.Say{As: c.As, Approve: c.Approve, Reason: c.Reason})
		}
		return err
	}
	switch {
	case c.Show, c.Log:
		return c.look(a, client, r)
	case c.Approve, c.Reject:
		return c.say(a, client, r)
	}
	return showReview(a, r)
}

func (c jobReviewCmd) check(a *app) error {
	wrong := func(hint, format string, args ...any) error {
		return sallyport.Errorf("job review", sallyport.Invalid, hint, format, args...)
	}
	says := c.Approve || c.Reject
	switch {
	case c.Job == "" && (says || c.Show || c.Log):
		return wrong("`sallyport job review` lists what waits.", "name a job")
	case says && strings.TrimSpace(c.Reason) == "":
		return wrong("Say why with --reason.", "an opinion needs a reason")
	case !says && (c.Reason != "" || c.Digest != ""):
		return wrong("Add --approve or --reject.", "--reason and --digest belong to an opinion")
	case c.Out != "" && !c.Show && !c.Log:
		return wrong("Add --show or --log.", "there is nothing to save")
	case a.json && c.Out == "" && (c.Show || c.Log):
		return wrong("Name a file with --out.", "a result is not printed as JSON")
	}
	return nil
}

func (c jobReviewCmd) list(a *app, client *control.Client) error {
	all, err := client.Reviews(a.ctx, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{string(r.Job), fmt.Sprintf("%d of %d", r.Agreed(), r.Needs), r.Dataset, r.Purpose, r.Subject, r.Facts.Media,
			strconv.FormatInt(r.Facts.Size, 10), strconv.Itoa(len(r.Facts.Warnings)), clock(r.Since), clock(r.Until)})
	}
	table(a.out, []string{"job", "agreed", "dataset", "purpose", "who", "type", "bytes", "warnings", "since", "until"}, rows)
	return nil
}

func showReview(a *app, r gateway.Review) error {
	if a.json {
		return a.printJSON(r)
	}
	f := r.Facts
	shape := ""
	if f.Columns > 0 {
		shape = fmt.Sprintf("%d records of %d columns", f.Records, f.Columns)
	} else if f.Records > 0 {
		shape = fmt.Sprintf("%d records", f.Records)
	}
	counts := ""
	if f.CountColumns > 0 {
		counts = fmt.Sprintf("%d columns of counts, %d values of 1 to %d", f.CountColumns, f.SmallCounts, f.SmallBelow-1)
	}
	searched := "not text: not searched for identifiers"
	if f.Searched {
		searched = "searched for e-mail addresses, phone numbers and social security numbers; what else names people, only you can see"
	}
	said := "nothing"
	if f.LogSize > 0 {
		said = fmt.Sprintf("%d bytes, given out with the result", f.LogSize)
	}
	pairs(a.out, "job", string(r.Job), "who", r.Subject, "project", r.Project, "purpose", r.Purpose, "dataset", r.Dataset,
		"algorithm", strings.Join(append([]string{r.Algorithm}, r.Args...), " "), "agreed", fmt.Sprintf("%d of %d", r.Agreed(), r.Needs),
		"since", clock(r.Since), "until", clock(r.Until), "digest", string(r.Digest), "size", fmt.Sprintf("%d bytes", f.Size),
		"type", f.Media+declared(f), "table", shape, "counts", counts, "given", fmt.Sprintf("%d records of the dataset", f.Released),
		"search", searched, "module said", said, "warnings", strings.Join(f.Warnings, "\n"))
	if len(r.Opinions) > 0 {
		fmt.Fprintln(a.out)
		var rows [][]string
		for _, o := range r.Opinions {
			says := "rejects"
			if o.Approve {
				says = "agrees"
			}
			rows = append(rows, []string{o.By, says, clock(o.Time), o.Reason})
		}
		table(a.out, []string{"who", "says", "when", "why"}, rows)
	}
	return nil
}

func declared(f gateway.ResultFacts) string {
	if f.Declared == "" {
		return " (the algorithm declares nothing)"
	}
	return " (the algorithm declares " + f.Declared + ")"
}

// look shows or saves what the reviewer asked for.
func (c jobReviewCmd) look(a *app, client *control.Client, r gateway.Review) (err error) {
	f, err := client.LookAtResult(a.ctx, r.Job, c.As, c.Log)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Out == "" {
		return cut(visibly(a.ctx, a.out, f))
	}
	dst, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return sallyport.E("save result", sallyport.Conflict, err, "Choose another file.")
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(dst, sum), f)
	err = cut(errors.Join(err, dst.Close()))
	want := r.Digest
	if c.Log {
		want = r.Log
	}
	got := sallyport.DigestSum(sum.Sum(nil))
	if err == nil && got != want && (n > 0 || want != "") {
		err = sallyport.Errorf("save result", sallyport.Damaged, "Look again.", "what was received is not what waits for review")
	}
	if err != nil {
		return errors.Join(err, os.Remove(c.Out))
	}
	if a.json {
		return a.printJSON(map[string]any{"file": c.Out, "size": n, "digest": got})
	}
	fmt.Fprintf(a.out, "%d bytes of %s saved in %s. Remove it when you are done: it was not given out.\n", n, r.Job, c.Out)
	return nil
}

func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return sallyport.E("look at result", sallyport.Damaged, err, "The gateway's log says why; what was shown is not to be trusted.")
	}
	return err
}

// visibly copies text to a terminal so that nothing in it can hide: what is not
// printable, such as escape sequences and marks that turn the direction of
// writing, is shown as its code.
func visibly(ctx context.Context, dst io.Writer, src io.Reader) error {
	in, out := bufio.NewReader(src), bufio.NewWriter(dst)
	for ctx.Err() == nil {
		c, n, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		switch {
		case c == utf8.RuneError && n == 1:
			_, err = out.WriteString(`\x??`)
		case c == '\n' || c == '\t' || unicode.IsPrint(c):
			_, err = out.WriteRune(c)
		default:
			_, err = fmt.Fprintf(out, `\u{%x}`, c)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// say gives the reviewer's opinion of what they were shown.
func (c jobReviewCmd) say(a *app, client *control.Client, r gateway.Review) error {
	digest := r.Digest
	if c.Digest != "" {
		digest = sallyport.Digest("sha256:" + strings.TrimPrefix(c.Digest, "sha256:"))
	}
	r, err := client.Opine(a.ctx, r.Job, control.Say{As: c.As, Approve: c.Approve, Reason: c.Reason, Digest: digest, Log: r.Log})
	if err != nil {
		return err
	}
	switch {
	case a.json:
		return a.printJSON(r)
	case c.Reject:
		fmt.Fprintf(a.out, "rejected: the result of %s is destroyed\n", r.Job)
	case r.Agreed() < r.Needs:
		fmt.Fprintf(a.out, "agreed to %s: %d of %d people; it waits until %s\n", r.Digest.Short(), r.Agreed(), r.Needs, r.Until.Local().Format(time.DateTime))
	default:
		fmt.Fprintf(a.out, "agreed to %s: the result of %s is given to %s\n", r.Digest.Short(), r.Job, r.Subject)
	}
	return nil
}
