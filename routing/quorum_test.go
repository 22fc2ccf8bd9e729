package routing_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/routing"
)

var (
	claimA = sallyport.DigestOf([]byte("a"))
	claimB = sallyport.DigestOf([]byte("b"))
)

func outcome(id, node string, claim sallyport.Digest) routing.Outcome {
	return routing.Outcome{Assignment: id, Node: node, Claim: claim}
}

func TestVerify(t *testing.T) {
	lost := routing.Outcome{Assignment: "x", Node: "nx", Failure: "lost"}
	failed := routing.Outcome{Assignment: "y", Node: "ny", Exit: 3, Claim: claimA}
	for name, c := range map[string]struct {
		in        []routing.Outcome
		copies    int
		agreed    bool
		needJudge bool
		more      int
		right     []string
		failed    []string
	}{
		"one of one":                     {in: []routing.Outcome{outcome("1", "n1", claimA)}, copies: 1, agreed: true, right: []string{"1"}},
		"two of two":                     {in: []routing.Outcome{outcome("2", "n2", claimA), outcome("1", "n1", claimA)}, copies: 2, agreed: true, right: []string{"1", "2"}},
		"three where two do":             {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n2", claimA), outcome("3", "n3", claimA)}, copies: 2, agreed: true, right: []string{"1", "2", "3"}},
		"nobody":                         {copies: 2, more: 2},
		"one of two":                     {in: []routing.Outcome{outcome("1", "n1", claimA), lost}, copies: 2, more: 1, failed: []string{"x"}},
		"failures are no votes":          {in: []routing.Outcome{outcome("1", "n1", claimA), failed}, copies: 2, more: 1, failed: []string{"y"}},
		"failures beside enough":         {in: []routing.Outcome{outcome("1", "n1", claimA), failed, lost, outcome("2", "n2", claimA)}, copies: 2, agreed: true, right: []string{"1", "2"}, failed: []string{"x", "y"}},
		"two differ":                     {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n2", claimB)}, copies: 2, needJudge: true},
		"a majority is no proof":         {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n2", claimA), outcome("3", "n3", claimB)}, copies: 2, needJudge: true},
		"they differ before enough came": {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n2", claimB)}, copies: 3, needJudge: true},
		"one node has one vote":          {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n1", claimA)}, copies: 2, more: 1},
		"a node that contradicts itself": {in: []routing.Outcome{outcome("1", "n1", claimA), outcome("2", "n1", claimB)}, copies: 1, needJudge: true},
		"no claim":                       {in: []routing.Outcome{outcome("1", "n1", "")}, copies: 1, more: 1, failed: []string{"1"}},
		"a malformed claim":              {in: []routing.Outcome{outcome("1", "n1", claimA[:70]), outcome("2", "n2", sallyport.Digest(strings.ToUpper(string(claimA))))}, copies: 1, more: 1, failed: []string{"1", "2"}},
	} {
		j, err := routing.Verify(c.in, c.copies)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if j.Agreed != c.agreed || j.NeedJudge != c.needJudge || j.More != c.more || !slices.Equal(j.Right, c.right) || !slices.Equal(j.Failed, c.failed) || len(j.Wrong) > 0 || j.Explain == "" {
			t.Errorf("%s: %+v", name, j)
		}
		if c.agreed != (j.Claim == claimA) || !c.agreed && j.Claim != "" {
			t.Errorf("%s: claim %q", name, j.Claim)
		}
	}
	for _, bad := range []struct {
		in     []routing.Outcome
		copies int
	}{{nil, 0}, {nil, -1}, {[]routing.Outcome{outcome("1", "n1", claimA), outcome("1", "n2", claimA)}, 1}, {[]routing.Outcome{outcome("", "n1", claimA)}, 1}, {[]routing.Outcome{outcome("1", "", claimA)}, 1}} {
		j, err := routing.Verify(bad.in, bad.copies)
		wantKind(t, err, sallyport.Invalid)
		if j.Agreed {
			t.Error("agreed on nonsense")
		}
	}
}

func TestSettle(t *testing.T) {
	in := []routing.Outcome{outcome("3", "n3", claimB), outcome("1", "n1", claimA), outcome("2", "n2", claimB), {Assignment: "4", Node: "n4", Failure: "lost", Claim: claimA}}
	j := routing.Settle(in, claimA)
	if !j.Agreed || j.Claim != claimA || j.NeedJudge || !slices.Equal(j.Right, []string{"1"}) || !slices.Equal(j.Wrong, []string{"2", "3"}) || !slices.Equal(j.Failed, []string{"4"}) {
		t.Errorf("%+v: the minority was right", j)
	}
	if j = routing.Settle(in[:1], claimA); j.Agreed || j.Claim != claimA || !slices.Equal(j.Wrong, []string{"3"}) {
		t.Errorf("%+v: nobody was right", j)
	}
	if j = routing.Settle(in, "sha256:?"); j.Agreed || !j.NeedJudge || len(j.Right)+len(j.Wrong) != 0 || j.Claim != "" {
		t.Errorf("%+v: judged by nothing", j)
	}
}

func drawOutcomes(t *rapid.T) []routing.Outcome {
	var list []routing.Outcome
	for n := range rapid.IntRange(0, 6).Draw(t, "n") {
		o := outcome(fmt.Sprint("a", n), fmt.Sprint("n", rapid.IntRange(0, 5).Draw(t, "node")), rapid.SampledFrom([]sallyport.Digest{claimA, claimA, claimA, claimB, ""}).Draw(t, "claim"))
		o.Failure = rapid.SampledFrom([]string{"", "", "", "lost"}).Draw(t, "failure")
		o.Exit = rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "exit")
		list = append(list, o)
	}
	return list
}

func TestVerifyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, copies := drawOutcomes(t), rapid.IntRange(1, 3).Draw(t, "copies")
		j, err := routing.Verify(in, copies)
		if err != nil {
			t.Fatal(err)
		}
		states := 0
		for _, is := range []bool{j.Agreed, j.NeedJudge, j.More > 0} {
			if is {
				states++
			}
		}
		if states != 1 {
			t.Fatalf("agreed, disputed or unfinished, one of them: %+v", j)
		}
		nodes := map[string]bool{}
		for _, o := range in {
			if o.Failure == "" && o.Exit == 0 && o.Claim != "" {
				if j.Agreed && o.Claim != j.Claim {
					t.Fatal("agreed against a claim")
				}
				nodes[o.Node] = true
			}
		}
		if j.Agreed && len(nodes) < copies {
			t.Fatalf("%d nodes made a quorum of %d", len(nodes), copies)
		}
		// In whatever order they come.
		k, err := routing.Verify(rapid.Permutation(in).Draw(t, "order"), copies)
		if err != nil || !reflect.DeepEqual(j, k) {
			t.Fatalf("order matters: %+v %+v", j, k)
		}
		// A liar can stop an agreement, never change what is agreed on.
		if j.Agreed {
			with, err := routing.Verify(append(slices.Clone(in), outcome("liar", "liar", claimB)), copies)
			if err != nil || with.Agreed && with.Claim != j.Claim {
				t.Fatalf("%+v became %+v", j, with)
			}
		}
		// Everybody is judged once.
		truth := routing.Settle(in, claimA)
		if len(truth.Right)+len(truth.Wrong)+len(truth.Failed) != len(in) {
			t.Fatalf("%+v of %d", truth, len(in))
		}
		if j.Agreed && j.Claim == claimA && (len(truth.Wrong) > 0 || !slices.Equal(truth.Right, j.Right)) {
			t.Fatal("agreement and truth differ")
		}
	})
}
