# What becomes of columns and rows.

package sallyport.admit

import data.sallyport.lib

# METADATA
# title: The masking standard that the dataset is held to
# description: Empty for none.
standard := object.get(lib.dataset, "standard", "")

# METADATA
# title: What becomes of each column
# description: |
#   Column to mask, {} for a value that stays as it is. A column that is not
#   here does not leave.
masks := object.union(kept, changed)

# METADATA
# title: The columns that leave
# description: Every column with a mask, but those to be dropped.
leaving := object.keys(verbs)

# METADATA
# title: Some column leaves
# description: The first that is found is enough, which is why this is no comparison with the above.
something_leaves if {
	some [_, key] in treatments
	key != "drop"
}

# METADATA
# title: The verb that each leaving column is treated with
# description: keep where its mask is empty.
verbs := object.union(
	{name: "keep" | some name, _ in kept},
	{name: verb | some name, mask in changed; some verb, _ in mask; verb != "drop"},
)

# METADATA
# title: The columns whose values stay as they are
# description: Column to the empty mask.
kept := {name: {} | some name, ["keep", _] in treatments}

# METADATA
# title: The columns whose values change
# description: |
#   Column to the mask that the steward proposes. Two columns of one name with
#   two masks are a conflict, and so a denial.
changed := {column.name: {column.mask.verb: object.get(column.mask, "args", {})} |
	some column in lib.dataset.columns
	column.mask.verb != ""
	treated[column.name][0] == "apply"
} if {
	treated := treatments
}

# METADATA
# title: Kept as it is, because the table keeps this role on this side whatever is proposed
# description: The steward's proposal is for data that leaves.
# labels:
#   rule: admit.column.raw
treatment_rules contains "admit.column.raw" if ["keep", "*"] in treatments

# METADATA
# title: Treated as the steward proposes
# description: Only with a verb that the table accepts for this role on this side.
# labels:
#   rule: admit.column.proposed
treatment_rules contains "admit.column.proposed" if changed != {}

# METADATA
# title: Kept as it is, because the steward says so and the table lets this role stay
# description: A quasi-identifier that leaves unchanged still counts at door 2.
# labels:
#   rule: admit.column.kept
treatment_rules contains "admit.column.kept" if ["keep", "keep"] in treatments

# METADATA
# title: Kept as it is, because nothing is proposed and the table lets this role stay
# description: A proposal that the table does not accept is no reason to keep the value.
# labels:
#   rule: admit.column.keep
treatment_rules contains "admit.column.keep" if ["keep", ""] in treatments

# METADATA
# title: The treatments that hold
# description: |
#   Column to its treatment. Where the dataset is held to a standard and goes
#   outside, the standard must accept it as well.
treatments := by_role if {
	standard == ""
} else := by_role if {
	destination == "local"
} else := {column.name: by_role[column.name] | some column in lib.dataset.columns; suffices(column)} if {
	destination == "outside"
}

# METADATA
# title: The treatments by the role of the column
# description: |
#   Column to what the table does and the entry that says so; a column that the
#   table has no entry for is not here. Two columns of one name with two
#   treatments are a conflict, and so a denial.
by_role := asked if {
	unasked == {}
} else := object.union(asked, raw) if {
	object.keys(asked) & object.keys(raw) == set()
}

# METADATA
# title: The columns that are treated by what the steward proposes
# description: One lookup a column; this is where a decision's time goes.
asked := {column.name: [how, verb] |
	some column in lib.dataset.columns
	row_of := choices[column.role]
	verb := object.get(column, ["mask", "verb"], "")
	how := row_of[verb]
} if {
	choices := object.remove(table, unasked)
}

# METADATA
# title: The columns that are kept whatever is proposed
# description: As above.
raw := {column.name: ["keep", "*"] |
	some column in lib.dataset.columns
	kept_roles[column.role]
} if {
	kept_roles := unasked
}

# METADATA
# title: The table of columns for this side
# description: The row names it.
table := data.rules.columns[row.columns]

# METADATA
# title: The roles whose columns are kept whatever is proposed
# description: Role to the key of the entry that says so.
unasked := {role: "*" | some role, choices in table; choices["*"] == "keep"}

# METADATA
# title: A column whose treatment the standard accepts
# description: By its identifier category; a column without one is withheld.
# scope: document
suffices(column) if data.rules.standards[standard][column.identifier].any == true

suffices(column) if {
	by_role[column.name][0] == "apply"
	bounds := data.rules.standards[standard][column.identifier].verbs[column.mask.verb]
	every name, bound in bounds { fits(bound, column.mask.args[name]) }
}

# METADATA
# title: An argument within its bound
# description: All that the bound says must hold; what it says in other words does not.
fits(bound, value) if {
	every kind, limit in bound { holds(kind, limit, value) }
}

# METADATA
# title: What a bound can say
# description: One of a list, at least, at most. Text is no number.
# scope: document
holds("in", list, value) if value in list

holds("min", least, value) if {
	is_number(value)
	value >= least
}

holds("max", most, value) if {
	is_number(value)
	value <= most
}

# METADATA
# title: The project's row filter for the dataset
# description: |
#   Column to the values whose records the project may see, on either side;
#   empty where the site names none. All of the columns must hold.
row_filter := object.get(project_rows, input.dataset, {}) if is_object(project_rows)

# METADATA
# title: The project's row filters
# description: By dataset. Only an absent entry is none; null is an error of the site's.
project_rows := object.get(lib.project, "rows", {})

# METADATA
# title: The columns whose filter cannot be applied
# description: Unknown to the catalog, or without a list of texts.
unfit_filters contains column if {
	some column, values in row_filter
	not fit(column, values)
}

# METADATA
# title: A column and its values that can be applied
# description: An empty list can; it lets nothing leave.
fit(column, values) if {
	column in catalog_columns
	is_array(values)
	every value in values { is_string(value) }
}

# METADATA
# title: The columns that the catalog lists
# description: By name.
catalog_columns := {column.name | some column in lib.dataset.columns}

# METADATA
# title: Which records may be seen
# description: Column and values; a record must be in all of them.
rows := {{"column": column, "in": values} | some column, values in row_filter}
