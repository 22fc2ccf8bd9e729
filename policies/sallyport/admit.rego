# METADATA
# title: Door 1, may this dataset be used like this?
# description: |
#   Every check of the table `checks` must pass; one that is undefined has not
#   passed. So a missing fact, a typo or a reason that cannot be written denies.
#   The verdict is {allow, reasons, rules} and, when it allows, also
#   {destination, masks, rows, limits}. See README.md.
# schemas:
#   - input: schema.v1.admission
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
	"rules": ((passed | waived) | (treatment_rules | {lib.label(id) | some id in used})),
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
	"admit.grant": {
		"says": "the project has no grant for this dataset",
		"needs": {"admit.project", "admit.member", "admit.dataset", "admit.purpose", "admit.destination"},
	},
	"admit.consent": {
		"says": "there is no consent to this purpose",
		"needs": {"admit.dataset", "admit.purpose"},
	},
	"admit.destination": {"says": "the dataset may not be sent there", "needs": {"admit.request", "admit.dataset"}},
	"admit.jurisdiction": {
		"says": "there is no region where the dataset may be processed",
		"needs": {"admit.request", "admit.dataset", "admit.destination"},
	},
	"admit.job": {
		"says": "this kind of job may not run there",
		"needs": {"admit.request", "admit.dataset", "admit.destination"},
	},
	"admit.history": {
		"says": "the dataset was released too often lately",
		"needs": {"admit.request", "admit.dataset", "admit.destination"},
	},
	"admit.standard": {
		"says": "the dataset is held to a standard that policy does not know",
		"needs": {"admit.request", "admit.dataset"},
	},
	"admit.columns": {
		"says": "no column of the dataset could be used",
		"needs": {"admit.request", "admit.dataset", "admit.destination", "admit.standard"},
	},
	"admit.rows": {
		"says": "the project's row filter for this dataset is none that policy understands",
		"needs": {"admit.project", "admit.dataset"},
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
# description: Looked for only where a check did not pass.
waived contains label if {
	some label in missing
	count(lib.exceptions[label]) > 0
}

# METADATA
# title: The exceptions that made a difference
# description: The verdict names them, so that the record shows what was let through by which.
# scope: document
used contains id if {
	some label in waived
	some id in lib.exceptions[label]
}

used contains id if {
	relaxed
	some id in lib.exceptions["release.class"]
}

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
	project_purposes == set()
}

passed contains "admit.project_purpose" if input.purpose in project_purposes

# METADATA
# title: The purposes of the project
# description: Empty where the site lists none.
project_purposes := {purpose | some purpose in lib.project.purposes}

# METADATA
# title: A grant for the project
# description: Where the table asks for one for data of this class, one that covers person, purpose and time.
# labels:
#   rule: admit.grant
passed contains "admit.grant" if lib.class.grant == false

passed contains "admit.grant" if {
	lib.class.grant == true
	input.purpose in lib.grant.purposes
	granted_to_person
	lib.begun(lib.grant)
	lib.lasts(lib.grant)
}

# METADATA
# title: A grant that covers the person
# description: Every member of the project, unless it lists people.
# scope: document
granted_to_person if not "people" in object.keys(lib.grant)

granted_to_person if input.subject.id in lib.grant.people

# METADATA
# title: Consent to the purpose
# description: |
#   GDPR Art. 6(1)(a) and 7(3): where the dataset rests on consent, one on
#   record for the purpose that was not withdrawn and has not expired.
# labels:
#   rule: admit.consent
passed contains "admit.consent" if object.get(lib.dataset, "consent", false) == false

passed contains "admit.consent" if {
	object.get(lib.consent, "withdrawn", false) == false
	lib.begun(lib.consent)
	consent_lasts
}

# METADATA
# title: A consent that has not expired
# description: One without an end lasts until it is withdrawn.
# scope: document
consent_lasts if not "until" in object.keys(lib.consent)

consent_lasts if lib.lasts(lib.consent)

# METADATA
# title: Permitted destination
# description: The table's row for this sensitivity and this side says whether data may go there.
# labels:
#   rule: admit.destination
passed contains "admit.destination" if row.may == true

# METADATA
# title: Somewhere to go
# description: |
#   GDPR Art. 44 and 45: outside there is at least one region where both the
#   dataset's residency and the table let it be processed. An empty list of
#   regions means anywhere, and is given only where neither bounds it.
# labels:
#   rule: admit.jurisdiction
passed contains "admit.jurisdiction" if destination == "local"

passed contains "admit.jurisdiction" if {
	destination == "outside"
	"*" in lib.class.jurisdictions
	residency == set()
}

passed contains "admit.jurisdiction" if {
	destination == "outside"
	count(regions) > 0
}

# METADATA
# title: A job that may run there
# description: |
#   The table sorts algorithms into classes, and says of each where it may run,
#   as what kind of code, and how many executions may be asked for.
# labels:
#   rule: admit.job
passed contains "admit.job" if {
	destination in job.destinations
	runner in job.runners[destination]
	object.get(input.request, "copies", 0) <= job.copies
}

# METADATA
# title: The table's class of the job
# description: Undefined where the table has none for the algorithm and none for the others.
job := data.rules.jobs.classes[object.get(data.rules.jobs.algorithms, input.request.algorithm, data.rules.jobs.algorithms["*"])]

# METADATA
# title: The kind of code
# description: Empty where there is none.
runner := object.get(input.request, "runner", "")

# METADATA
# title: Not released too often
# description: |
#   Releases of one dataset can be laid over each other, and then tell more than
#   each of them. Where the table bounds them, those to outside within its window
#   count, by other jobs than this.
# labels:
#   rule: admit.history
passed contains "admit.history" if row.max_releases == 0

passed contains "admit.history" if {
	row.max_releases > 0
	count(recent) < row.max_releases
}

# METADATA
# title: The jobs that released the dataset to outside lately
# description: A day has 86,400 seconds here.
recent contains release.job if {
	some release in input.history
	release.destination == "outside"
	release.job != input.job
	time.parse_rfc3339_ns(release.time) > lib.now - ((row.releases_window_days * 86400) * 1000000000)
}

# METADATA
# title: A known standard
# description: The dataset is held to none, or to one that the table has.
# labels:
#   rule: admit.standard
passed contains "admit.standard" if standard == ""

passed contains "admit.standard" if data.rules.standards[standard]

# METADATA
# title: Something left to use
# description: At least one column remains after every column without a treatment is withheld and others are dropped.
# labels:
#   rule: admit.columns
passed contains "admit.columns" if something_leaves

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
# title: Why not
# description: One sentence for each cause.
reasons contains object.get(why, label, checks[label].says) if some label in causes
