package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/gateway/control"
)

// Age is a span of time as people write it for years to come: 10y, 90d, 12h. A
// year has 365 days.
type Age time.Duration

// UnmarshalYAML reads an age.
func (a *Age) UnmarshalYAML(decode func(any) error) error {
	var s string
	if err := decode(&s); err != nil {
		return err
	}
	const day = 24 * time.Hour
	for unit, of := range map[string]time.Duration{"y": 365 * day, "d": day} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil || n == 0 || time.Duration(n) > (1<<63-1)/of {
				return fmt.Errorf("%q is no age: write 10y, 90d or 12h", s)
			}
			*a = Age(time.Duration(n) * of)
			return nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no age: write 10y, 90d or 12h", s)
	}
	*a = Age(d)
	return nil
}

// retention is the configuration's rules, in the log's words.
func (c *Config) retention() []audit.Retention {
	var out []audit.Retention
	for _, step := range slices.Sorted(maps.Keys(c.Retention)) {
		r := audit.Retention{Step: step, Age: time.Duration(c.Retention[step])}
		if step == "*" {
			r.Step = ""
		}
		out = append(out, r)
	}
	return out
}

// retireDaily applies the rules of retention when the gateway starts and then
// once a day.
func retireDaily(ctx context.Context, g *gateway.Gateway, log *slog.Logger) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		done, err := g.Retire(ctx, gateway.Subject{})
		switch {
		case err != nil && ctx.Err() == nil:
			log.Error("the audit log's rules of retention could not be applied", "err", err)
		case done.Records > 0:
			log.Info("contents of audit records were erased by age", "records", done.Records, "tombstone", done.Tombstone)
		}
		select {
		case <-ctx.Done():
			return
		case <-day.C:
		}
	}
}

type auditRetainCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (auditRetainCmd) Help() string {
	return `Erases the contents of records that are older than ` + "`retention:`" + ` in the configuration says, as the gateway does by itself once a day. Records under legal hold, of policies, of signatures and of erasures stay. Numbers, times, steps and every proof stay, and a record says what was erased.

  sallyport audit retain`
}

func (c auditRetainCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	e, err := client.Retire(a.ctx, control.LogAct{As: c.As})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(e)
	}
	if e.Records == 0 {
		fmt.Fprintln(a.out, "Nothing is old enough.")
		return nil
	}
	fmt.Fprintf(a.out, "erased the contents of %d records (%s); record %d says so\n", e.Records, e.Ranges, e.Tombstone)
	return nil
}
