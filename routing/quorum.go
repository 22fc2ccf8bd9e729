package routing

import (
	"fmt"
	"slices"
	"strings"

	"sallyport"
)

// Judgment is what several executions of one task prove together. The lists
// hold assignment IDs, sorted.
type Judgment struct {
	Agreed    bool             `json:"agreed"` // Claim is the verified result, and those in Right have it
	Claim     sallyport.Digest `json:"claim,omitempty"`
	Right     []string         `json:"right,omitempty"`
	Wrong     []string         `json:"wrong,omitempty"`
	Failed    []string         `json:"failed,omitempty"` // no result
	NeedJudge bool             `json:"need_judge"`       // claims differ: only a local re-run tells the truth
	More      int              `json:"more,omitempty"`   // successful executions still missing
	Explain   string           `json:"explain"`
}

// Verify compares what executions of one deterministic task claim. It agrees
// if and only if at least copies different nodes succeeded and every claim is
// the same. Any two different claims need a judge: a majority is no proof,
// since with a fifth of all nodes dishonest a vote of three is wrong in one
// case of ten (Sarmenta, FGCS 18, 2002: Σ C(3,j) 0.2^j 0.8^(3-j), j ≥ 2).
//
// A success is an outcome without Failure, of exit status 0, with a
// well-formed claim. The same assignment twice, or no copies wanted, is a
// sallyport.Invalid.
func Verify(outcomes []Outcome, copies int) (Judgment, error) {
	const op = "verify"
	if copies < 1 {
		return Judgment{}, sallyport.Errorf(op, sallyport.Invalid, "", "a quorum of %d", copies)
	}
	seen := map[string]bool{}
	for _, o := range outcomes {
		if o.Assignment == "" || o.Node == "" || seen[o.Assignment] {
			return Judgment{}, sallyport.Errorf(op, sallyport.Invalid, "", "assignment %q of node %q is there twice or unnamed", o.Assignment, o.Node)
		}
		seen[o.Assignment] = true
	}
	var j Judgment
	claims, voters := map[sallyport.Digest][]string{}, map[string]bool{}
	for _, o := range outcomes {
		if succeeded(o) {
			claims[o.Claim] = append(claims[o.Claim], o.Assignment)
			voters[o.Node] = true // a node that ran twice has one vote
		} else {
			j.Failed = append(j.Failed, o.Assignment)
		}
	}
	slices.Sort(j.Failed)
	switch {
	case len(claims) > 1:
		j.NeedJudge = true
		j.Explain = "the claims differ: " + describe(claims)
	case len(voters) < copies:
		j.More = copies - len(voters)
		j.Explain = fmt.Sprintf("%d of %d executions succeeded, %d failed: %d more are needed", len(voters), copies, len(j.Failed), j.More)
	default:
		for claim, ids := range claims {
			j.Agreed, j.Claim, j.Right = true, claim, ids
		}
		slices.Sort(j.Right)
		j.Explain = fmt.Sprintf("%d of %d claim %s", len(voters), copies, j.Claim.Short())
	}
	return j, nil
}

// Settle judges by the truth: the claim of a re-run on the lab's own machines.
// It agrees if somebody was right. A malformed truth judges nobody and still
// needs a judge.
func Settle(outcomes []Outcome, truth sallyport.Digest) Judgment {
	known := wellFormed(truth)
	j := Judgment{NeedJudge: !known}
	for _, o := range outcomes {
		switch {
		case !succeeded(o):
			j.Failed = append(j.Failed, o.Assignment)
		case !known:
		case o.Claim == truth:
			j.Right = append(j.Right, o.Assignment)
		default:
			j.Wrong = append(j.Wrong, o.Assignment)
		}
	}
	slices.Sort(j.Failed)
	slices.Sort(j.Right)
	slices.Sort(j.Wrong)
	if !known {
		j.Explain = "the re-run gave no result to judge by"
		return j
	}
	j.Claim, j.Agreed = truth, len(j.Right) > 0
	j.Explain = fmt.Sprintf("the local re-run gives %s: %d right, %d wrong, %d without a result", truth.Short(), len(j.Right), len(j.Wrong), len(j.Failed))
	return j
}

func succeeded(o Outcome) bool { return o.Failure == "" && o.Exit == 0 && wellFormed(o.Claim) }

// wellFormed: "sha256:" and 64 lower-case hexadecimal digits. A claim comes
// from a stranger and is compared and printed.
func wellFormed(d sallyport.Digest) bool {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

func describe(claims map[sallyport.Digest][]string) string {
	var parts []string
	for claim, ids := range claims {
		slices.Sort(ids)
		parts = append(parts, strings.Join(ids, ", ")+" claim "+claim.Short())
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
