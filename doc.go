// Package sallyport is the glossary: the words that two or more rooms of the
// program must both utter, and nothing else. It imports only the standard
// library and does no I/O.
//
// A sallyport is the small door of a fortress through which a sortie leaves:
// two doors with a chamber between them, and never both open. This program is
// that door for a lab's data:
//
//	The gateway takes a dataset from a store, asks policy, anonymizes it into
//	a sealed chamber, asks policy again with what was measured, hands the
//	seal's key to the node that routing chose, and audit remembers every step.
//
//	identify → ADMIT ──► anonymize ═► seal ═► hold ──► RELEASE ──► place → hand over → run
//	           door 1    (one streaming pass)          door 2                          │
//	                              keep ◄── open ◄── verify ◄───────────────────────────┘
//
// Read gateway/passage.go first: it tells the whole story in order.
package sallyport
