// Package planning turns a target into a plan: it looks at a table, finds what
// each column may tell, builds generalization ladders, and searches them for
// the treatment that reaches the target at the least loss. It also draws what
// other targets would cost, so that a steward chooses on a picture.
package planning
