# METADATA
# title: Door 1, may this dataset be used like this?
# description: |
#   Every check of the table `checks` must pass; one that is undefined has not
#   passed. So a missing fact, a typo or a reason that cannot be written denies.
#   The verdict is {allow, reasons, rules} and, when it allows, also
#   {destination, masks, rows, limits}. See README.md.
package sallyport.admit

import data.sallyport.lib

# METADATA
# title: The verdict of door 1
# description: What the gateway asks for. Without any other answer it is no.
# scope: document
# labels:
#   rule: admit.verdict
default verdict := {
	"allow": false,
	"reasons": ["no rule allows this"],
	"rules": ["admit.default"],
}

verdict := {"allow": false, "reasons": reasons, "rules": causes} if not allow

verdict := {
	"allow": true,
	"reasons": [],
	"rules": (passed | treatment_rules),
	"destination": destination,
	"masks": masks,
	"rows": rows,
	"limits": limits,
} if {
	allow
}

# METADATA
# title: All checks passed
# description: The only way to be allowed.
# scope: document
default allow := false

allow if failed == set()

# METADATA
# title: The checks of door 1
# description: |
#   Label of each check; what is said when it fails and nothing more exact can
#   be said; and the checks without which it cannot pass, so that only the cause
#   is reported and not what follows from it. A check counts only if it is
#   listed here, and a listed check without a rule below never passes.
checks := {
	"admit.request": {"says": "the request has a value that policy does not know", "needs": set()},
	"admit.role": {"says": "this person has no role that may run jobs", "needs": set()},
	"admit.project": {"says": "this project is not known here", "needs": set()},
	"admit.member": {"says": "this person is not a member of the project", "needs": {"admit.project"}},
	"admit.dataset": {"says": "this dataset is not in the catalog", "needs": set()},
	"admit.purpose": {"says": "the dataset may not be used for this purpose", "needs": {"admit.dataset"}},
	"admit.project_purpose": {"says": "the project does not have this purpose", "needs": {"admit.project"}},
	"admit.destination": {"says": "the dataset may not be sent there", "needs": {"admit.request", "admit.dataset"}},
	"admit.columns": {
		"says": "no column of the dataset could be used",
		"needs": {"admit.request", "admit.dataset", "admit.destination"},
	},
	"admit.rows": {
		"says": "the project's row filter for this dataset is none that policy understands",
		"needs": {"admit.project", "admit.dataset"},
	},
}

# METADATA
# title: The checks that did not pass
# description: Whatever is not proved to have passed, an undefined check included.
failed := object.keys(checks) - passed

# METADATA
# title: The failed checks that are a cause
# description: They are the rules that a denial names, with one reason each.
causes contains label if {
	some label in failed
	checks[label].needs & failed == set()
}

# METADATA
# title: Well-formed request
# description: A request may only tighten, so what it asks must be something policy can compare.
# labels:
#   rule: admit.request
passed contains "admit.request" if {
	object.get(input.request, "where", "") in {"", "local", "outside"}
	object.get(input.request, "max_price", 0) >= 0
	object.get(input.request, "copies", 0) >= 0
}

# METADATA
# title: A role that may run jobs
# description: The table says what each role may do; a role it does not have may nothing.
# labels:
#   rule: admit.role
passed contains "admit.role" if {
	some role in lib.roles
	"job:run" in data.rules.roles[role].may
}

# METADATA
# title: Known project
# description: The site lists its projects.
# labels:
#   rule: admit.project
passed contains "admit.project" if lib.project

# METADATA
# title: Member by the project's list
# description: The project lists its members.
# labels:
#   rule: admit.member
passed contains "admit.member" if input.subject.id in lib.project.members

# METADATA
# title: Member by the person's list
# description: Or the person lists their projects.
# labels:
#   rule: admit.member
passed contains "admit.member" if input.project in lib.projects

# METADATA
# title: Known dataset
# description: In the catalog, with a sensitivity that the table has a row for.
# labels:
#   rule: admit.dataset
passed contains "admit.dataset" if lib.class

# METADATA
# title: A purpose of the dataset
# description: GDPR Art. 5(1)(b), purpose limitation; the steward lists what the data may be used for.
# labels:
#   rule: admit.purpose
passed contains "admit.purpose" if input.purpose in lib.dataset.purposes

# METADATA
# title: A purpose of the project
# description: Only asked where the project lists purposes.
# labels:
#   rule: admit.project_purpose
passed contains "admit.project_purpose" if {
	lib.project
	lib.items(lib.project, "purposes") == set()
}

passed contains "admit.project_purpose" if input.purpose in lib.items(lib.project, "purposes")

# METADATA
# title: Permitted destination
# description: The table's row for this sensitivity and this side says whether data may go there.
# labels:
#   rule: admit.destination
passed contains "admit.destination" if row.may == true

# METADATA
# title: Something left to use
# description: At least one column remains after every column without a treatment is withheld.
# labels:
#   rule: admit.columns
passed contains "admit.columns" if leaving != set()

# METADATA
# title: A row filter that can be applied
# description: |
#   Each of its columns is in the catalog, with a list of texts. A filter that
#   cannot be understood must not be read as none.
# labels:
#   rule: admit.rows
passed contains "admit.rows" if {
	is_object(row_filter)
	unfit_filters == set()
}

# METADATA
# title: Where it runs
# description: Where the request says, or the table's choice for the sensitivity.
destination := input.request.where if not object.get(input.request, "where", "") in {"", null}

else := lib.class.default

# METADATA
# title: The table's row for sensitivity and destination
# description: Undefined for another destination, and then nothing that needs it passes.
row := lib.class[destination] if destination in {"local", "outside"}

# METADATA
# title: What becomes of each column
# description: |
#   Column to mask, {} for a value that stays as it is. A column that is not
#   here does not leave.
masks := {name: t.mask | some name, t in treatments}

# METADATA
# title: The treatment of each column, with the rule that gave it
# description: Two columns of one name with two treatments are a conflict, and so a denial.
treatments[column.name] := treatment(data.rules.columns[row.columns][column.role], column) if {
	some column in lib.dataset.columns
}

# METADATA
# title: Kept as it is, because the table leaves this role raw on this side
# description: The steward's proposal is for data that leaves.
# labels:
#   rule: admit.column.raw
treatment(table, _) := {"mask": {}, "rule": "admit.column.raw"} if table.raw == true

# METADATA
# title: Treated as the steward proposes
# description: Only with a verb that the table accepts for this role on this side.
# labels:
#   rule: admit.column.proposed
treatment(table, column) := {"mask": {column.mask.verb: object.get(column.mask, "args", {})}, "rule": "admit.column.proposed"} if {
	not table.raw
	column.mask.verb in table.verbs
	column.mask.verb != "keep"
}

# METADATA
# title: Kept as it is, because the steward says so and the table lets this role stay
# description: A quasi-identifier that leaves unchanged still counts at door 2.
# labels:
#   rule: admit.column.kept
treatment(table, column) := {"mask": {}, "rule": "admit.column.kept"} if {
	not table.raw
	"keep" in table.verbs
	column.mask.verb == "keep"
}

# METADATA
# title: Kept as it is, because nothing is proposed and the table lets this role stay
# description: A proposal that the table does not accept is no reason to keep the value.
# labels:
#   rule: admit.column.keep
treatment(table, column) := {"mask": {}, "rule": "admit.column.keep"} if {
	not table.raw
	table.otherwise == "keep"
	object.get(column, ["mask", "verb"], "") == ""
}

# METADATA
# title: The treatment rules that were applied
# description: Named in the verdict beside the checks.
treatment_rules := {t.rule | some t in treatments}

# METADATA
# title: The columns that leave
# description: Every column with a mask, but those to be dropped.
leaving := {name |
	some name, t in treatments
	not t.mask.drop
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

# METADATA
# title: What bounds the job
# description: |
#   The table's row; a request can lower the price and raise the copies, the
#   project's budget can lower the budget. All fields must be defined.
limits := {
	"key_ttl": row.key_ttl,
	"price": min({row.price} | {p | p := input.request.max_price; p > 0}),
	"budget": min({row.budget, object.get(lib.project, "budget", row.budget)}),
	"copies": max({row.copies, object.get(input.request, "copies", 0)}),
	"regions": regions,
	"min_class": row.min_class,
	"max_unique": row.max_unique,
	"reviews": row.reviews,
}

# METADATA
# title: Where outside machines must stand
# description: The dataset's residency. Local machines are where the data already are.
regions := lib.items(lib.dataset, "residency") if destination == "outside"

regions := [] if destination == "local"

# METADATA
# title: Why not
# description: One sentence for each cause.
reasons contains object.get(why, label, checks[label].says) if some label in causes

# METADATA
# title: The exact sentence for a failed check
# description: Where it is undefined, the one in `checks` is used.
# scope: document
why["admit.request"] := sprintf("where is %q: it is local, outside or left out", [input.request.where]) if {
	not input.request.where in {"", "local", "outside"}
}

why["admit.role"] := sprintf("%s has no role that may run jobs; ask an administrator for the role researcher", [input.subject.id])

why["admit.project"] := sprintf("project %s is not known here", [input.project])

why["admit.member"] := sprintf("%s is not a member of project %s", [input.subject.id, input.project])

why["admit.dataset"] := sprintf("dataset %s is not in the catalog", [input.dataset]) if not lib.dataset

why["admit.dataset"] := sprintf("dataset %s has the sensitivity %s, which policy has no row for", [input.dataset, lib.dataset.sensitivity]) if {
	not lib.class
}

why["admit.purpose"] := sprintf("dataset %s may not be used for %s; its purposes are: %s", [
	input.dataset,
	input.purpose,
	concat(", ", lib.items(lib.dataset, "purposes")),
])

why["admit.project_purpose"] := sprintf("project %s does not have the purpose %s; it has: %s", [
	input.project,
	input.purpose,
	concat(", ", lib.items(lib.project, "purposes")),
]) if {
	lib.items(lib.project, "purposes") != set()
}

why["admit.destination"] := sprintf("dataset %s is %s: it stays on the local cluster; submit without where=outside", [
	input.dataset,
	lib.dataset.sensitivity,
]) if {
	destination == "outside"
	lib.class
}

why["admit.rows"] := sprintf("project %s may see only some rows of dataset %s, told by a column that the dataset does not have: %s; correct the project's rows or the catalog", [
	input.project,
	input.dataset,
	concat(", ", foreign_columns),
]) if {
	foreign_columns != set()
}

why["admit.columns"] := sprintf("no column of dataset %s may leave: each needs a mask that policy accepts for its role", [input.dataset]) if {
	row.may == true
}

# METADATA
# title: Columns of the row filter that the catalog does not list
# description: For the sentence that names them.
foreign_columns contains column if {
	is_object(row_filter)
	some column, _ in row_filter
	not column in catalog_columns
}
