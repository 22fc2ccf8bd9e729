// Package model chooses generalizations: privacy models over equivalence
// classes, information losses, and the search of the generalization lattice for
// the solution with the least loss. It is pure: a [Table] of counts goes in,
// levels and figures come out, and the same table gives the same answer.
//
// Sources: k-anonymity, L. Sweeney, IJUFKS 10(5), 2002; l-diversity,
// A. Machanavajjhala et al., TKDD 1(1), 2007; t-closeness, N. Li et al., ICDE
// 2007; the lattice and its predictive tagging, K. LeFevre et al., SIGMOD 2005
// (Incognito), K. El Emam et al., JAMIA 16(5), 2009 (OLA), F. Kohlmayer et al.,
// PASSAT 2012 (Flash); losses, A. Gionis and T. Tassa, TKDE 21(2), 2009
// (entropy), R. Bayardo and R. Agrawal, ICDE 2005 (discernibility), V. Iyengar,
// KDD 2002 (loss), as the open-source tool ARX computes them.
//
// What is measured holds for the quasi-identifiers that were declared, and for
// one release: a column that nobody declared, or a second release of the same
// records, can undo it.
package model
