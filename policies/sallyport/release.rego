# METADATA
# title: Door 2, may what was made of it leave?
# description: |
#   Asked with what was measured on the bytes in the hold. Door 1 is asked
#   again, on today's catalog and people, so that what was withdrawn while the
#   job waited does not leave. Built as door 1: every check must pass.
#   The verdict is {allow, reasons, rules}.
# schemas:
#   - input: schema.v1.releasing
package sallyport.release

import data.sallyport.admit
import data.sallyport.lib

# METADATA
# title: The verdict of door 2
# description: What the gateway asks for. Without any other answer it is no.
# scope: document
# labels:
#   rule: release.verdict
default verdict := {
	"allow": false,
	"reasons": ["no rule allows this"],
	"rules": ["release.default"],
}

verdict := {"allow": false, "reasons": reasons, "rules": causes} if not allow

verdict := {"allow": true, "reasons": [], "rules": ((passed | waived) | {lib.label(id) | some id in used})} if allow

# METADATA
# title: All checks passed
# description: The only way to be allowed.
# scope: document
default allow := false

allow if failed == set()

# METADATA
# title: The checks of door 2
# description: As in sallyport.admit.
checks := {
	"release.admitted": {"says": "the job would not be admitted any more", "needs": set()},
	"release.destination": {"says": "it was not admitted for this destination", "needs": {"release.admitted"}},
	"release.exact": {"says": "the risk was not measured on all records", "needs": {"release.admitted"}},
	"release.census": {
		"says": "the risk was not measured over all quasi-identifiers that would leave",
		"needs": {"release.admitted"},
	},
	"release.records": {
		"says": "there are too few records",
		"needs": {"release.admitted", "release.destination"},
	},
	"release.class": {
		"says": "the smallest equivalence class is too small",
		"needs": {"release.admitted", "release.destination", "release.exact", "release.records"},
	},
	"release.unique": {
		"says": "too many records are unique",
		"needs": {"release.admitted", "release.destination", "release.exact", "release.records"},
	},
	"release.diversity": {
		"says": "a sensitive column has too few values in one class",
		"needs": {"release.admitted", "release.destination", "release.exact", "release.records"},
	},
	"release.closeness": {
		"says": "a sensitive column tells too much about one class",
		"needs": {"release.admitted", "release.destination", "release.exact", "release.records"},
	},
	"release.combined": {
		"says": "what earlier releases and this one say together tells people apart",
		"needs": {"release.admitted", "release.destination", "release.exact", "release.records"},
	},
	"release.undeclared": {
		"says": "a column that nobody declared a quasi-identifier tells people apart",
		"needs": {"release.admitted", "release.destination"},
	},
	"release.residual": {
		"says": "likely identifiers were seen in what would leave",
		"needs": {"release.admitted", "release.destination"},
	},
	"release.columns": {"says": "other columns would leave than were admitted", "needs": {"release.admitted"}},
	"release.rows": {
		"says": "other rows would leave than the project may see today; run the job again",
		"needs": {"release.admitted"},
	},
	"release.actions": {
		"says": "columns were not treated as was admitted",
		"needs": {"release.admitted", "release.columns"},
	},
}

# METADATA
# title: The checks that did not pass
# description: Unless an exception waives them.
failed := missing - waived

# METADATA
# title: The checks that did not pass by themselves
# description: Whatever is not proved to have passed, an undefined check included.
missing := object.keys(checks) - passed

# METADATA
# title: The checks that did not pass and that an exception waives
# description: But the smallest classes, which an exception lowers to what the table lets it, and no further.
waived contains label if {
	some label in missing
	not label in {"release.class", "release.combined"}
	count(lib.exceptions[label]) > 0
}

# METADATA
# title: The exceptions that made a difference
# description: The verdict names them.
# scope: document
used contains id if {
	some label in waived
	some id in lib.exceptions[label]
}

used contains id if {
	input.facts.risk.smallest_class < row.min_class
	some id in lib.exceptions["release.class"]
}

used contains id if {
	input.facts.combined.smallest_class < row.min_combined
	some id in lib.exceptions["release.combined"]
}

# METADATA
# title: The failed checks that are a cause
# description: They are the rules that a denial names.
causes contains label if {
	some label in failed
	checks[label].needs & failed == set()
}

# METADATA
# title: The table's row for what was admitted
# description: Undefined for another destination, and then nothing that needs it passes.
row := lib.class[input.destination] if input.destination in {"local", "outside"}

# METADATA
# title: Still admitted
# description: Door 1 allows it today as well.
# labels:
#   rule: release.admitted
passed contains "release.admitted" if admit.allow

# METADATA
# title: The same destination
# description: It goes where door 1 said.
# labels:
#   rule: release.destination
passed contains "release.destination" if {
	input.destination == admit.destination
	row.may == true
}

# METADATA
# title: Measured exactly
# description: A census that stopped at a memory limit cannot support a release.
# labels:
#   rule: release.exact
passed contains "release.exact" if input.facts.risk.exact == true

# METADATA
# title: Measured over every quasi-identifier
# description: A class size says nothing about a column that was not counted.
# labels:
#   rule: release.census
passed contains "release.census" if quasi - {name | some name in input.facts.risk.quasi} == set()

# METADATA
# title: The quasi-identifiers that leave
# description: By the catalog's role, not by what the pass says it counted.
quasi contains column.name if {
	some column in lib.dataset.columns
	column.role == "quasi"
	column.name in admit.leaving
}

# METADATA
# title: Enough records
# description: The table says from how many up.
# labels:
#   rule: release.records
passed contains "release.records" if input.facts.risk.records >= row.min_records

# METADATA
# title: Large enough classes
# description: k-anonymity (Sweeney 2002); the stricter of the table and what was admitted.
# labels:
#   rule: release.class
passed contains "release.class" if input.facts.risk.smallest_class >= min_class

# METADATA
# title: The smallest class that may leave
# description: The table may have been tightened, or an exception have ended, since the job was admitted.
min_class := max({admit.min_class, input.admitted.min_class})

# METADATA
# title: Few enough unique records
# description: The stricter of the table and what was admitted.
# labels:
#   rule: release.unique
passed contains "release.unique" if {
	input.facts.risk.unique_share >= 0
	input.facts.risk.unique_share <= max_unique
}

# METADATA
# title: The largest share of unique records that may leave
# description: As for the smallest class.
max_unique := min({row.max_unique, input.admitted.max_unique})

# METADATA
# title: Diverse enough classes
# description: |
#   Distinct l-diversity (Machanavajjhala et al. 2006), where the table asks for
#   it: what was not measured is not enough.
# labels:
#   rule: release.diversity
passed contains "release.diversity" if row.min_l == 0

passed contains "release.diversity" if {
	diversity >= row.min_l
}

# METADATA
# title: How diverse the classes were measured to be
# description: Undefined where that was not measured; null is no measure.
diversity := input.facts.risk.diversity if is_number(input.facts.risk.diversity)

# METADATA
# title: Classes that are like the whole
# description: |
#   t-closeness (Li et al. 2007), where the table asks for it.
# labels:
#   rule: release.closeness
passed contains "release.closeness" if row.max_t == 1

passed contains "release.closeness" if {
	closeness >= 0
	closeness <= row.max_t
}

# METADATA
# title: How close the classes were measured to be
# description: As for the diversity.
closeness := input.facts.risk.closeness if is_number(input.facts.risk.closeness)

# METADATA
# title: Large enough classes together with earlier releases
# description: |
#   Each of two releases can be safe and both together not: who has both can hold
#   one against the other (composition: Ganta, Kasiviswanathan, Smith 2008).
#   Where the table asks, and something of the dataset left before, it must have
#   been measured on everything that left or would leave, over every
#   quasi-identifier, exactly.
# labels:
#   rule: release.combined
passed contains "release.combined" if row.min_combined == 0

passed contains "release.combined" if {
	row.min_combined > 0
	first
}

passed contains "release.combined" if {
	row.min_combined > 0
	together
	input.facts.combined.smallest_class >= row.min_combined
}

passed contains "release.combined" if {
	together
	input.facts.combined.smallest_class < row.min_combined
	input.facts.combined.smallest_class >= min_combined
}

# METADATA
# title: The first release to outside
# description: Nothing was measured together with earlier ones because there are none.
first if {
	is_object(input.facts)
	not input.facts.combined
	is_array(input.history)
	earlier == []
}

# METADATA
# title: The earlier releases of the dataset that are not known to have stayed inside
# description: Who has this one could have any of them.
earlier := [release | some release in input.history; not release.destination == "local"]

# METADATA
# title: Measured together with earlier releases
# description: On all of their records, over at least every quasi-identifier that leaves now.
together if {
	input.facts.combined.exact == true
	is_number(input.facts.combined.smallest_class)
	uncounted == set()
}

# METADATA
# title: The quasi-identifiers that were not counted together with earlier releases
# description: As for the check release.census.
uncounted := quasi - {name | some name in input.facts.combined.quasi}

# METADATA
# title: The smallest class of all releases together that may be let out
# description: The table's, or what it lets an exception lower that to.
min_combined := row.min_combined if not eased

min_combined := data.rules.exceptions.min_class if eased

# METADATA
# title: A smaller class of all releases together by exception
# description: Only where it makes a difference.
eased if {
	data.rules.exceptions.min_class >= 2
	data.rules.exceptions.min_class < row.min_combined
	count(lib.exceptions["release.combined"]) > 0
}

# METADATA
# title: No undeclared quasi-identifiers
# description: |
#   k counts over the columns that were declared. One that was not, and whose
#   values mostly occur once, tells people apart all the same to whoever can know
#   them. Where the table asks, none may do so to a larger share of the records.
# labels:
#   rule: release.undeclared
passed contains "release.undeclared" if row.max_undeclared == 1

passed contains "release.undeclared" if {
	row.max_undeclared >= 0
	row.max_undeclared < 1
	is_array(input.facts.undeclared)
	telling == []
}

# METADATA
# title: The columns that tell too many records apart
# description: In file order. A column whose share is no share is one of them.
telling := [column | some i, column in input.facts.undeclared; not i in bearable]

# METADATA
# title: The columns that tell few enough records apart
# description: By their places in the list; an estimate counts as a count.
bearable contains i if {
	some i, column in input.facts.undeclared
	column.unique_share >= 0
	column.unique_share <= row.max_undeclared
}

# METADATA
# title: No likely identifiers left
# description: Those that the table tolerates by type do not count.
# labels:
#   rule: release.residual
passed contains "release.residual" if {
	row.residual
	is_object(input.facts.residual)
	denied_residual == {}
}

# METADATA
# title: Likely identifiers that may not leave, by type
# description: A type that the table does not name is treated as "*", and denied where that is absent too.
denied_residual[type] := count_ if {
	some type, count_ in input.facts.residual
	count_ != 0
	object.get(row.residual, type, object.get(row.residual, "*", "deny")) != "tolerate"
}

# METADATA
# title: Exactly the admitted columns
# description: None more, none fewer, none twice.
# labels:
#   rule: release.columns
passed contains "release.columns" if {
	columns == admit.leaving
	count(input.facts.columns) == count(columns)
}

# METADATA
# title: The columns that would leave
# description: As measured, without order.
columns := {name | some name in input.facts.columns}

# METADATA
# title: Filtered as admitted
# description: |
#   By the row filters that hold today, so that rows withdrawn from the project
#   while the job waited do not leave.
# labels:
#   rule: release.rows
passed contains "release.rows" if filters(input.facts.rows) == filters(admit.rows)

# METADATA
# title: Row filters without their order
# description: To compare two lists of them.
filters(list) := {[filter.column, {value | some value in filter["in"]}] | some filter in list}

# METADATA
# title: Treated as admitted
# description: Each column by the verb of its mask, and only those unchanged that may be.
# labels:
#   rule: release.actions
passed contains "release.actions" if {
	input.facts.actions == expected
	{name | some name in input.facts.cleared} == {name | some name, "keep" in expected}
}

# METADATA
# title: The verb that each leaving column must have been treated with
# description: As door 1 says, keep where the mask is empty.
expected := admit.verbs

# METADATA
# title: Why not
# description: One sentence for each cause; door 1's own where it changed its mind.
# scope: document
reasons contains object.get(why, label, checks[label].says) if {
	some label in causes
	label != "release.admitted"
}

reasons contains sprintf("%s: %s", [checks["release.admitted"].says, reason]) if {
	"release.admitted" in causes
	some reason in admit.reasons
}

# METADATA
# title: The exact sentence for a failed check
# description: Where it is undefined, the one in `checks` is used.
# scope: document
why["release.destination"] := sprintf("it was admitted for %s and would go %s", [admit.destination, input.destination])

why["release.exact"] := "the risk was measured on part of the records only; raise the census memory or release fewer columns"

why["release.census"] := sprintf("the risk was not measured over these quasi-identifiers: %s", [
	concat(", ", quasi - {name | some name in input.facts.risk.quasi}),
])

why["release.records"] := sprintf("there are %d records; %s data may leave only from %d up", [
	input.facts.risk.records,
	lib.dataset.sensitivity,
	row.min_records,
])

why["release.class"] := sprintf("smallest equivalence class is %d %s; %s data may leave only from %d up", [
	input.facts.risk.smallest_class,
	plural(input.facts.risk.smallest_class, "record"),
	lib.dataset.sensitivity,
	min_class,
])

why["release.unique"] := sprintf("%d of %d records are alone in their class; %s data may leave only up to a share of %v", [
	round(input.facts.risk.unique_share * input.facts.risk.records),
	input.facts.risk.records,
	lib.dataset.sensitivity,
	max_unique,
])

why["release.diversity"] := sprintf("a sensitive column has only %d different %s in one class; %s data may leave only from %d up", [
	diversity,
	plural(diversity, "value"),
	lib.dataset.sensitivity,
	row.min_l,
])

why["release.diversity"] := sprintf("how diverse the sensitive columns are was not measured; %s data may leave only from %d different values up", [
	lib.dataset.sensitivity,
	row.min_l,
]) if {
	not diversity
}

why["release.closeness"] := sprintf("a sensitive column of one class differs from the whole table by %v; %s data may leave only up to %v", [
	closeness,
	lib.dataset.sensitivity,
	row.max_t,
])

why["release.closeness"] := sprintf("how close the classes are to the whole table was not measured; %s data may leave only up to %v", [
	lib.dataset.sensitivity,
	row.max_t,
]) if {
	not closeness
}

why["release.combined"] := sprintf("%d %s of %s went outside before, and what they say together with this one was not measured", [
	count(earlier),
	plural(count(earlier), "release"),
	input.dataset,
]) if {
	not input.facts.combined
}

why["release.combined"] := concat("", [
	"what earlier releases and this one say together was not measured on all records: the census memory did not suffice, ",
	"or a column, a verb or a hierarchy of an earlier release is gone",
]) if {
	input.facts.combined.exact == false
}

why["release.combined"] := sprintf("what earlier releases and this one say together was not measured over these quasi-identifiers: %s", [
	concat(", ", uncounted),
]) if {
	input.facts.combined.exact == true
	uncounted != set()
}

why["release.combined"] := sprintf(
	concat("", [
		"together with earlier releases the smallest equivalence class is %d %s; %s data may leave only from %d up: ",
		"treat columns and rows as an earlier release did, or ask for an exception",
	]),
	[
		input.facts.combined.smallest_class,
		plural(input.facts.combined.smallest_class, "record"),
		lib.dataset.sensitivity,
		min_combined,
	],
) if {
	together
}

why["release.undeclared"] := sprintf(
	concat("", [
		"columns that nobody declared quasi-identifiers tell people apart by themselves: %s; %s data may leave only up to a share of %v: ",
		"declare them quasi, round or generalize them, or drop them",
	]),
	[
		concat(", ", [said(column) | some column in telling]),
		lib.dataset.sensitivity,
		row.max_undeclared,
	],
) if {
	count(telling) > 0
}

why["release.residual"] := sprintf("likely identifiers were seen in what would leave: %s", [
	concat(", ", {sprintf("%d of type %s", [n, type]) | some type, n in denied_residual}),
])

why["release.columns"] := sprintf("these columns would leave without having been admitted: %s", [concat(", ", columns - admit.leaving)]) if {
	columns - admit.leaving != set()
}

why["release.columns"] := sprintf("these admitted columns are missing: %s", [concat(", ", admit.leaving - columns)]) if {
	columns - admit.leaving == set()
	admit.leaving - columns != set()
}

why["release.actions"] := sprintf("these columns were not treated as admitted: %s", [concat(", ", wrong)]) if wrong != set()

# METADATA
# title: Columns that were treated in another way than admitted
# description: Those with another verb, and those that should not be there.
# scope: document
wrong contains name if {
	some name, verb in expected
	not input.facts.actions[name] == verb
}

wrong contains name if {
	some name, _ in input.facts.actions
	not expected[name]
}

# METADATA
# title: A column and how many records it tells apart
# description: For sentences.
said(column) := sprintf("%s (%s%d of %d records)", [
	column.column,
	about(column),
	round(column.unique_share * input.facts.risk.records),
	input.facts.risk.records,
]) if {
	is_number(column.unique_share)
} else := column.column

# METADATA
# title: Whether the figure is an estimate
# description: For sentences.
about(column) := "about " if {
	object.get(column, "estimated", false) == true
} else := ""

# METADATA
# title: One record, two records
# description: For sentences that count.
plural(n, word) := word if n == 1

plural(n, word) := concat("", [word, "s"]) if n != 1
