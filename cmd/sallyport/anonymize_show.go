package main

import (
	"fmt"
	"io"
	"strconv"

	reporting "sallyport/anonymize/report"
)

// anonymizedTables is what --json prints.
type anonymizedTables struct {
	DryRun bool              `json:"dry_run,omitempty"`
	Files  []anonymizedTable `json:"files"`
	Failed int               `json:"failed"`
}

// show prints what became of the tables. Its error is that of the one table
// named, or says that some failed.
func (r *anonymizing) show(a *app, results []anonymizedTable) error {
	all := anonymizedTables{DryRun: r.DryRun, Files: results}
	for _, res := range results {
		if res.err != nil {
			all.Failed++
		}
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
		if all.Failed > 0 {
			return exitCode(1)
		}
		return nil
	}
	w := a.out
	if results[0].Out == "" && !r.DryRun {
		w = a.errs // the table is on standard output
	}
	if !r.tables.many {
		res := results[0]
		if res.err != nil {
			return res.err
		}
		r.showOne(w, res)
		for _, n := range res.Attention {
			fmt.Fprintf(a.errs, "note: %s\n", n)
		}
		return nil
	}
	var rows [][]string
	for _, res := range results {
		if res.err == nil {
			rows = append(rows, []string{res.In, fmt.Sprint(res.Records.Left), fmt.Sprint(res.Before.SmallestClass), fmt.Sprint(res.After.SmallestClass),
				percentOf(res.After.Unique), strconv.Itoa(len(res.Attention)), dash(res.Out)})
		}
	}
	if len(rows) > 0 {
		table(w, []string{"table", "records", "k before", "k", "unique", "notes", "output"}, rows)
	}
	for _, res := range results {
		if res.err != nil {
			fmt.Fprintf(a.errs, "failed: %s: %s\n", res.In, res.Error)
			if res.Hint != "" {
				fmt.Fprintf(a.errs, "  hint: %s\n", res.Hint)
			}
		}
		for _, n := range res.Attention {
			fmt.Fprintf(a.errs, "note: %s: %s\n", res.In, n)
		}
	}
	if all.Failed > 0 {
		fmt.Fprintf(a.errs, "sallyport: %d of %d tables failed; nothing of them was written\n", all.Failed, len(results))
		return exitCode(1)
	}
	return nil
}

func (r *anonymizing) showOne(w io.Writer, res anonymizedTable) {
	d := res.document
	left := fmt.Sprint(d.Records.Left)
	if d.Records.Left != d.Records.Read {
		left += fmt.Sprintf(" of %d", d.Records.Read)
	}
	reports := ""
	for i, p := range res.Reports {
		if i > 0 {
			reports += "\n"
		}
		reports += p
	}
	pairs(w,
		"records", left,
		"smallest class", beforeAfter(fmt.Sprint(d.Risk.Before.SmallestClass), fmt.Sprint(d.Risk.After.SmallestClass)),
		"unique records", beforeAfter(percentOf(d.Risk.Before.Unique), percentOf(d.Risk.After.Unique)),
		"highest risk", beforeAfter(percentOf(d.Risk.Before.Highest), percentOf(d.Risk.After.Highest)),
		"average risk", beforeAfter(percentOf(d.Risk.Before.Average), percentOf(d.Risk.After.Average)),
		"counted over", list(d.Risk.After.Quasi),
		"output", res.Out,
		"digest", string(res.Output),
		"report", reports,
		"report digest", digestShown(res))
	if r.DryRun {
		fmt.Fprintln(w)
		table(w, []string{"column", "role", "category", "treatment", "altered", "distinct after"}, fieldRows(d.Fields))
		fmt.Fprintln(w, "\nNo table was written.")
	}
}

// digestShown is the digest of a report that was written.
func digestShown(res anonymizedTable) string {
	if len(res.Reports) == 0 {
		return ""
	}
	return string(res.ReportDigest)
}

func fieldRows(fields []reporting.Field) [][]string {
	var rows [][]string
	for _, f := range fields {
		altered, distinct := "-", "-"
		if f.ChangedShare != nil {
			altered = percentOf(*f.ChangedShare)
			if f.Distinct > 0 { // it is not counted of every column
				distinct = fmt.Sprint(f.Distinct)
			}
			if f.Estimated {
				distinct = "about " + distinct
			}
		}
		rows = append(rows, []string{f.Column, string(f.Role), dash(f.Identifier), f.Treatment, altered, distinct})
	}
	return rows
}

func beforeAfter(before, after string) string { return after + " (before: " + before + ")" }

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
