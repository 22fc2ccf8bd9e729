package risk

// Contribution is what one quasi-identifier adds to the risk: the figures of
// all of them less those without it. Columns that say the same contribute
// little each, and much together.
type Contribution struct {
	Column  string  `json:"column"`
	Average float64 `json:"average"`      // of the prosecutor's average
	Unique  float64 `json:"unique_share"` // of the share of unique records
	Classes int64   `json:"classes"`
}

// Contributes compares a table's figures with those without one column.
func Contributes(column string, all, without Report) Contribution {
	return Contribution{Column: column,
		Average: all.Prosecutor.Average - without.Prosecutor.Average,
		Unique:  all.UniqueShare - without.UniqueShare,
		Classes: all.Classes - without.Classes,
	}
}
