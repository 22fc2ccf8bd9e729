package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport"
)

// What bounds an explanation, however large the bundle and the input are.
const (
	maxValue     = 200 // characters of a value or of an expression
	maxQueries   = 400 // evaluations
	maxDepth     = 6   // rules behind rules
	maxSolutions = 3   // near misses of one expression
	explainTime  = 20  // times the engine's deadline
)

// Explanation says how a verdict came about: for a denial what did not hold and
// what would have to, for an allow which rules gave it. All values are from the
// input and the data that the decision saw, cut to a readable length.
type Explanation struct {
	Door    Door    `json:"door"`
	Verdict Verdict `json:"verdict"` // as [Engine.Decide] gives it
	// Fault is why there is no proper verdict: an error of the evaluation. The
	// verdict is then a denial.
	Fault *Fault `json:"fault,omitempty"`
	// Labels are the verdict's rules. For a verdict that names none that the
	// bundle has, one without a name explains the verdict's own rules.
	Labels []Label `json:"labels"`
	// Cut is set where the explanation reached its bounds and tells less than there is.
	Cut bool `json:"cut,omitempty"`
}

// Label is one of the verdict's labels and what gave it.
type Label struct {
	Name        string      `json:"name"`
	Title       string      `json:"title,omitempty"`
	Description string      `json:"description,omitempty"`
	Reason      string      `json:"reason,omitempty"` // the bundle's own sentence
	Rules       []RuleTrace `json:"rules"`
}

// RuleTrace is one rule as it was evaluated.
type RuleTrace struct {
	Rule  string `json:"rule"` // e.g. data.sallyport.admit.passed
	Title string `json:"title,omitempty"`
	File  string `json:"file"`
	Line  int    `json:"line"`
	Held  bool   `json:"held"`
	// Conditions are, of a rule that did not hold, the furthest that was reached
	// and failed (one for each near miss of an iteration); of a rule that held and
	// should not have, all of them. Empty for a rule that held and should.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one expression of a rule.
type Condition struct {
	Text   string      `json:"text"` // as in the file
	File   string      `json:"file"`
	Line   int         `json:"line"`
	Holds  bool        `json:"holds"`
	Values []Value     `json:"values,omitempty"`
	Wants  string      `json:"wants,omitempty"` // what would have to be true
	Why    []RuleTrace `json:"why,omitempty"`   // the rules behind a value
}

// Value is what a reference, a variable or a call was.
type Value struct {
	Name      string `json:"name"`
	Value     string `json:"value,omitempty"` // in Rego's notation: JSON, and {…} for sets
	Undefined bool   `json:"undefined,omitempty"`
}

// Fault is an error of an evaluation.
type Fault struct {
	Text string   `json:"text"`
	At   []Place  `json:"at,omitempty"` // the rules or expressions that gave it
	Say  []string `json:"say,omitempty"`
	// Values are those in the expression, where they can be told.
	Values []Value `json:"values,omitempty"`
}

// Place is a line of the bundle.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// Explain puts a recorded question again and says how the answer came about.
// It works for any bundle: it takes the rules that the verdict's labels name,
// or those of the verdict itself, evaluates the conditions of each in turn, and
// for the furthest one that failed looks up what it compared. What cannot be
// evaluated is a Fault and no error; errors are of the question itself.
//
// The conditions are evaluated one by one and not read from a trace, because a
// trace lacks what the evaluator's index skipped and has names and expressions
// that nobody wrote.
func (e *Engine) Explain(ctx context.Context, door Door, input json.RawMessage) (Explanation, error) {
	s := e.now.Load()
	q, err := e.recorded(door, input)
	if err == nil {
		err = q.bad
	}
	if err != nil {
		return Explanation{}, sallyport.E("explain policy", sallyport.Invalid, err, "Name the record of an admission or a release.")
	}
	out := Explanation{Door: door, Labels: []Label{}}
	var fault error
	out.Verdict, fault = e.ask(ctx, s, q)
	value, err := q.value()
	if err != nil {
		return out, sallyport.E("explain policy", sallyport.Invalid, err, "")
	}
	query := admitQuery
	if door == ReleaseDoor {
		query = releaseQuery
	}
	ctx, cancel := context.WithTimeout(ctx, explainTime*e.cfg.Deadline)
	defer cancel()
	x := &explainer{ctx: ctx, s: s, input: ast.NewTerm(value), at: q.at, verdict: ast.MustParseRef(query), sources: s.bundle.sources()}
	txn, err := s.store.NewTransaction(ctx)
	if err != nil {
		return out, sallyport.E("explain policy", sallyport.Internal, err, "")
	}
	defer s.store.Abort(ctx, txn)
	x.txn = txn
	defer func() {
		// A rule that makes the evaluator panic is a denial at the door; here it
		// ends the explanation with what there is.
		if r := recover(); r != nil {
			out.Cut = true
		}
	}()
	if fault != nil {
		out.Fault = x.fault(fault)
		if out.Fault != nil && len(out.Fault.At) > 0 {
			return out, nil
		}
	}
	out.Labels = x.labels(out.Verdict)
	out.Cut = x.cut
	return out, nil
}

// source is a rule as written. The compiler rewrites its own copies.
type source struct {
	rule   *ast.Rule
	module *ast.Module
	path   ast.Ref // data.….name, without what varies
	notes  []*ast.Annotations
	label  string
}

func (s *source) title() (title, description string) {
	for _, n := range s.notes {
		if n.Title != "" {
			return n.Title, strings.TrimSpace(n.Description)
		}
	}
	return "", ""
}

// sources lists the bundle's rules in the order of files and lines, each with
// the annotations that hold for it.
func (b *Bundle) sources() []*source {
	var out []*source
	documents := map[string][]*ast.Annotations{}
	for _, name := range b.Files() {
		m := b.rules[name]
		if m == nil {
			continue
		}
		for _, r := range m.Rules {
			path := r.Ref().GroundPrefix()
			if r.Head.Key != nil || len(r.Ref()) > len(path) || r.Head.RuleKind() == ast.MultiValue {
				path = m.Package.Path.Extend(ast.Ref{r.Head.Ref()[0]}).Copy()
				if s, ok := path[len(path)-1].Value.(ast.Var); ok {
					path[len(path)-1] = ast.StringTerm(string(s))
				}
			}
			for r := r; r != nil; r = r.Else {
				s := &source{rule: r, module: m, path: path}
				for _, a := range r.Annotations {
					s.notes = append(s.notes, a)
					if a.Scope == "document" {
						documents[path.String()] = append(documents[path.String()], a)
					}
				}
				out = append(out, s)
			}
		}
	}
	for _, s := range out {
		s.notes = append(s.notes, documents[s.path.String()]...)
		for _, n := range s.notes {
			if l, ok := n.Labels["rule"].(string); ok {
				s.label = l
				break
			}
		}
	}
	return out
}

// labels explains the verdict by its labels, or by its own rules where they
// lead nowhere.
func (x *explainer) labels(v Verdict) []Label {
	out := []Label{}
	if v.Allow {
		found := false
		for _, name := range v.Rules {
			l := Label{Name: name, Rules: []RuleTrace{}}
			for _, s := range x.labelled(name) {
				if held, known := x.holds(s); held || !known {
					l.Rules = append(l.Rules, s.trace(true))
				}
			}
			x.describe(&l)
			found = found || len(l.Rules) > 0
			out = append(out, l)
		}
		if !found {
			out = append(out, Label{Rules: x.explainRules(x.named(x.verdict), nil, false, 0)})
		}
		return out
	}
	found := false
	for _, name := range v.Rules {
		l := Label{Name: name, Rules: x.explainLabel(name, 0)}
		x.describe(&l)
		l.Reason = x.reason(name, v)
		found = found || len(l.Rules) > 0
		out = append(out, l)
	}
	if !found {
		l := Label{Rules: x.explainVerdict()}
		if len(out) == 1 {
			l.Name, l.Reason = out[0].Name, out[0].Reason
			out = nil
		}
		x.describe(&l)
		out = append(out, l)
	}
	return out
}

// explainVerdict explains a denial by the verdict's own rules: the one that
// gave it, or else those that could have allowed.
func (x *explainer) explainVerdict() []RuleTrace {
	rules := x.named(x.verdict)
	if held := x.explainRules(rules, nil, false, 0); len(held) > 0 {
		return held
	}
	return x.explainRules(slices.DeleteFunc(rules, func(s *source) bool {
		doc, ok := s.rule.Head.Value.Value.(ast.Object)
		if !ok {
			return false
		}
		allow := doc.Get(ast.StringTerm("allow"))
		return allow != nil && ast.Boolean(false).Equal(allow.Value)
	}), nil, true, 0)
}

func (x *explainer) describe(l *Label) {
	for _, s := range x.labelled(l.Name) {
		if title, description := s.title(); title != "" && l.Title == "" {
			l.Title, l.Description = title, description
		}
	}
}

// labelled are the rules that a label stands for: annotated with it, or adding
// it to a set; those of the asked door's package if there are any. A verdict
// rule that merely lists it is none.
func (x *explainer) labelled(label string) []*source {
	var here, elsewhere []*source
	for _, s := range x.sources {
		if label == "" || s.path.Equal(x.verdict) || !(s.label == label || keyIs(s.rule, label)) {
			continue
		}
		if s.module.Package.Path.Equal(x.verdict[:3]) {
			here = append(here, s)
		} else {
			elsewhere = append(elsewhere, s)
		}
	}
	if len(here) > 0 {
		return here
	}
	return elsewhere
}

func keyIs(r *ast.Rule, label string) bool {
	if r.Head.Key == nil || r.Head.RuleKind() != ast.MultiValue {
		return false
	}
	s, ok := r.Head.Key.Value.(ast.String)
	return ok && string(s) == label
}

// explainLabel says of each of the label's rules why it did not hold; where one
// did and so gave the denial, why it held. Rules that add any label to the same
// set are ways to the label too.
func (x *explainer) explainLabel(label string, depth int) []RuleTrace {
	rules := x.labelled(label)
	sets := map[string]bool{}
	for _, s := range rules {
		if keyIs(s.rule, label) {
			sets[s.path.String()] = true
		}
	}
	var held, missed []RuleTrace
	for _, s := range rules {
		if len(s.rule.Head.Args) > 0 || ast.Var("why").Equal(s.rule.Head.Ref()[0].Value) {
			continue
		}
		t := x.explainRule(s, nil, nil, depth)
		if t.Held {
			held = append(held, t)
		} else {
			missed = append(missed, t)
		}
	}
	if len(held) > 0 {
		return held
	}
	for _, s := range x.sources {
		if k := s.rule.Head.Key; sets[s.path.String()] && k != nil && !keyIs(s.rule, label) && !k.IsGround() {
			missed = append(missed, x.explainRule(s, x.keyed(s, label), nil, depth))
		}
	}
	return missed
}

// keyed binds a set's key to the label: what the rule would have had to add.
func (x *explainer) keyed(s *source, label string) []*ast.Expr {
	if k := s.rule.Head.Key; k != nil && s.rule.Head.RuleKind() == ast.MultiValue && !k.IsGround() {
		return []*ast.Expr{ast.Equality.Expr(k.Copy(), ast.StringTerm(label))}
	}
	return nil
}

// holds reports whether a rule holds, and whether that can be told: a function
// has no arguments here.
func (x *explainer) holds(s *source) (held, known bool) {
	if len(s.rule.Head.Args) > 0 {
		return false, false
	}
	sols, err := x.solve(s.module, s.exprs(), 1)
	return len(sols) > 0, err == nil
}

// reason finds the bundle's sentence for a label, as the default design has it
// (why[label], or checks[label].says); if there is one label and one reason, it is that.
func (x *explainer) reason(label string, v Verdict) string {
	if len(v.Rules) == 1 && len(v.Reasons) == 1 {
		return v.Reasons[0]
	}
	pkg := ast.NewTerm(x.verdict[:3])
	for _, tail := range [][]*ast.Term{{ast.StringTerm("why"), ast.StringTerm(label)},
		{ast.StringTerm("checks"), ast.StringTerm(label), ast.StringTerm("says")}} {
		ref := pkg.Value.(ast.Ref).Copy()
		ref = append(ref, tail...)
		if !slices.ContainsFunc(x.sources, func(s *source) bool { return s.path.HasPrefix(ref[:4]) }) {
			continue
		}
		val, _ := x.eval(nil, ast.NewTerm(ref), nil)
		if val == nil {
			continue
		}
		if s, ok := val.Value.(ast.String); ok && slices.Contains(v.Reasons, string(s)) {
			return string(s)
		}
	}
	return ""
}

// fault says where an evaluation went wrong. nil if it was none: the verdict
// was undefined or ill-formed, and the rules say why.
func (x *explainer) fault(err error) *Fault {
	f := &Fault{Text: clip(plainError(err), 4*maxValue)}
	var at *topdown.Error
	if !errors.As(err, &at) || at.Location == nil || topdown.IsCancel(err) {
		return f
	}
	s, expr := x.locate(at.Location)
	if s == nil {
		f.At = []Place{{at.Location.File, at.Location.Row, clip(string(at.Location.Text), maxValue)}}
		return f
	}
	if at.Code == topdown.ConflictErr {
		x.conflict(f, s, at.Location)
		return f
	}
	if expr == nil {
		f.At = []Place{place(s.rule.Location)}
		return f
	}
	f.At = []Place{place(expr.Location)}
	f.Say = []string{fmt.Sprintf("%s raised an error; guard it by a check of what it is given, or use a function that cannot fail", f.At[0].Text)}
	if len(s.rule.Head.Args) == 0 {
		var before []*ast.Expr
		for _, e := range s.exprs() {
			if e == expr {
				break
			}
			before = append(before, e)
		}
		if sols, err := x.solve(s.module, before, 1); err == nil && len(sols) > 0 {
			f.Values = x.values(s.module, expr, sols[0])
		}
	}
	return f
}

// conflict names the rules that disagreed. A function's arguments are not
// known, so all its rules that could have are named.
func (x *explainer) conflict(f *Fault, s *source, at *ast.Location) {
	say := map[string]bool{}
	for _, other := range x.named(s.path) {
		if other.rule.Default {
			continue
		}
		if len(s.rule.Head.Args) > 0 {
			f.At = append(f.At, place(other.rule.Location))
			continue
		}
		head := other.rule.Head.Value
		if head == nil {
			continue
		}
		value := ast.VarTerm("sallyport_value")
		sols, err := x.solve(other.module, slices.Concat(other.body(), []*ast.Expr{ast.Equality.Expr(value, head.Copy())}), maxSolutions)
		if err != nil || len(sols) == 0 {
			continue
		}
		f.At = append(f.At, place(other.rule.Location))
		for _, sol := range sols {
			if v := sol["sallyport_value"]; v != nil {
				say[fmt.Sprintf("%s:%d gives %s", other.rule.Location.File, other.rule.Location.Row, clip(v.String(), maxValue))] = true
			}
		}
	}
	if len(f.At) == 0 {
		f.At = []Place{place(at)}
	}
	for text := range say {
		f.Say = append(f.Say, text)
	}
	slices.Sort(f.Say)
	f.Say = append(f.Say, fmt.Sprintf("%s may have one value only: make the conditions of its rules exclude each other, or chain them with else", strings.TrimPrefix(s.path.String(), "data.")))
}

// locate finds the rule and its expression that a location lies in.
func (x *explainer) locate(at *ast.Location) (*source, *ast.Expr) {
	var found *source
	for _, s := range x.sources {
		if l := s.rule.Location; l != nil && l.File == at.File && l.Offset <= at.Offset && (found == nil || l.Offset >= found.rule.Location.Offset) {
			found = s
		}
	}
	if found == nil {
		return nil, nil
	}
	for _, e := range found.exprs() {
		if l := e.Location; l != nil && l.Offset <= at.Offset && at.Offset < l.Offset+max(1, len(l.Text)) {
			return found, e
		}
	}
	return found, nil
}

func place(l *ast.Location) Place {
	text, _, more := strings.Cut(string(l.Text), "\n")
	if more {
		text += " …"
	}
	return Place{l.File, l.Row, clip(text, maxValue)}
}

// plainError is an error's text without our own words around it.
func plainError(err error) string {
	var ours *sallyport.Error
	if errors.As(err, &ours) {
		err = ours.Err
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
