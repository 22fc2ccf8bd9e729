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
masks := {name: treated.mask | some name, treated in treatments}

# METADATA
# title: The verb that each leaving column is treated with
# description: keep where its mask is empty. A column that is dropped does not leave.
verbs := {name: treated.verb | some name, treated in treatments; treated.verb != "drop"}

# METADATA
# title: The columns that leave
# description: Every column with a mask, but those to be dropped.
leaving := object.keys(verbs)

# METADATA
# title: The treatment rules that were applied
# description: Named in the verdict beside the checks.
treatment_rules := {treated.rule | some treated in treatments}

# METADATA
# title: The treatments that hold
# description: |
#   Column to its treatment. Where the dataset is held to a standard and goes
#   outside, the standard must accept it as well.
# scope: document
treatments := by_role if standard == ""

treatments := by_role if destination == "local"

treatments := {column.name: by_role[column.name] | some column in lib.dataset.columns; suffices(column)} if {
	standard != ""
	destination == "outside"
}

# METADATA
# title: The treatments by the role of the column
# description: |
#   Column to its treatment; a column that no rule treats is not here. Two
#   columns of one name with two treatments are a conflict, and so a denial.
by_role := {column.name: treatment(column.role, object.get(column, "mask", null)) |
	some column in lib.dataset.columns
}

# METADATA
# title: The table of columns for this side
# description: The row names it.
table := data.rules.columns[row.columns]

# What follows is asked once for each pair of role and mask, however many columns
# have it: {rule, verb, mask}.

# METADATA
# title: Kept as it is, because the table leaves this role raw on this side
# description: The steward's proposal is for data that leaves.
# labels:
#   rule: admit.column.raw
treatment(role, _) := {"rule": "admit.column.raw", "verb": "keep", "mask": {}} if table[role].raw == true

# METADATA
# title: Treated as the steward proposes
# description: Only with a verb that the table accepts for this role on this side.
# labels:
#   rule: admit.column.proposed
treatment(role, mask) := {"rule": "admit.column.proposed", "verb": mask.verb, "mask": {mask.verb: object.get(mask, "args", {})}} if {
	not table[role].raw
	mask.verb != "keep"
	mask.verb in table[role].verbs
}

# METADATA
# title: Kept as it is, because the steward says so and the table lets this role stay
# description: A quasi-identifier that leaves unchanged still counts at door 2.
# labels:
#   rule: admit.column.kept
treatment(role, mask) := {"rule": "admit.column.kept", "verb": "keep", "mask": {}} if {
	mask.verb == "keep"
	not table[role].raw
	"keep" in table[role].verbs
}

# METADATA
# title: Kept as it is, because nothing is proposed and the table lets this role stay
# description: A proposal that the table does not accept is no reason to keep the value.
# labels:
#   rule: admit.column.keep
treatment(role, mask) := {"rule": "admit.column.keep", "verb": "keep", "mask": {}} if {
	object.get({"mask": mask}, ["mask", "verb"], "") == ""
	not table[role].raw
	table[role].otherwise == "keep"
}

# METADATA
# title: A column whose treatment the standard accepts
# description: By its identifier category; a column without one is withheld.
# scope: document
suffices(column) if data.rules.standards[standard][column.identifier].any == true

suffices(column) if {
	by_role[column.name].rule == "admit.column.proposed"
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
