# What a denial says.

package sallyport.admit

import data.sallyport.lib

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
	concat(", ", {purpose | some purpose in lib.dataset.purposes}),
])

why["admit.project_purpose"] := sprintf("project %s does not have the purpose %s; it has: %s", [
	input.project,
	input.purpose,
	concat(", ", project_purposes),
]) if {
	project_purposes != set()
}

why["admit.grant"] := grant_problem

why["admit.consent"] := consent_problem

why["admit.destination"] := sprintf("dataset %s is %s: it stays on the local cluster; submit without where=outside", [
	input.dataset,
	lib.dataset.sensitivity,
]) if {
	destination == "outside"
	lib.class
}

why["admit.jurisdiction"] := sprintf("dataset %s may be processed in %s and %s data in %s: no region is in both; submit without where=outside", [
	input.dataset,
	concat(", ", residency),
	lib.dataset.sensitivity,
	concat(", ", jurisdictions),
]) if {
	residency != set()
	jurisdictions != set()
}

why["admit.job"] := job_problem

why["admit.history"] := sprintf("dataset %s was released to outside %d times in %d days; %d is the most, so ask for an exception or wait", [
	input.dataset,
	count(recent),
	row.releases_window_days,
	row.max_releases,
])

why["admit.standard"] := sprintf("dataset %s is held to the standard %s, which policy has no table for", [input.dataset, standard])

why["admit.rows"] := sprintf("project %s may see only some rows of dataset %s, told by a column that the dataset does not have: %s; correct the project's rows or the catalog", [
	input.project,
	input.dataset,
	concat(", ", foreign_columns),
]) if {
	foreign_columns != set()
}

why["admit.columns"] := sprintf("no column of dataset %s may leave: each needs a mask that policy accepts for its role", [input.dataset]) if {
	row.may == true
	standard == ""
}

why["admit.columns"] := sprintf("no column of dataset %s may leave: each needs a mask that policy accepts for its role, and %s for its identifier", [input.dataset, standard]) if {
	row.may == true
	standard != ""
}

# METADATA
# title: What is wrong with the grant
# description: The first that is, and who can help.
grant_problem := sprintf("project %s has no grant for dataset %s; ask its owner %s for one", [
	input.project,
	input.dataset,
	lib.dataset.owner,
]) if {
	not lib.grant
} else := sprintf("the grant of project %s for dataset %s is for %s, not for %s; ask its owner %s to widen it", [
	input.project,
	input.dataset,
	concat(", ", {purpose | some purpose in lib.grant.purposes}),
	input.purpose,
	lib.dataset.owner,
]) if {
	not input.purpose in lib.grant.purposes
} else := sprintf("the grant of project %s for dataset %s expired %s; ask its owner %s to renew it", [
	input.project,
	input.dataset,
	lib.day(lib.grant.until),
	lib.dataset.owner,
]) if {
	not lib.lasts(lib.grant)
} else := sprintf("the grant of project %s for dataset %s begins %s; submit again then", [
	input.project,
	input.dataset,
	lib.day(lib.grant.since),
]) if {
	not lib.begun(lib.grant)
} else := sprintf("the grant of project %s for dataset %s is not for %s; ask its owner %s to widen it", [
	input.project,
	input.dataset,
	input.subject.id,
	lib.dataset.owner,
]) if {
	not granted_to_person
}

# METADATA
# title: What is wrong with the consent
# description: As for the grant.
consent_problem := sprintf("dataset %s may be used for %s only with consent, and none is on record; ask its owner %s", [
	input.dataset,
	input.purpose,
	lib.dataset.owner,
]) if {
	not lib.consent
} else := sprintf("the consent to use dataset %s for %s was withdrawn", [input.dataset, input.purpose]) if {
	not object.get(lib.consent, "withdrawn", false) == false
} else := sprintf("the consent to use dataset %s for %s expired %s; ask its owner %s", [
	input.dataset,
	input.purpose,
	lib.day(lib.consent.until),
	lib.dataset.owner,
]) if {
	not consent_lasts
} else := sprintf("the consent to use dataset %s for %s counts from %s on", [
	input.dataset,
	input.purpose,
	lib.day(lib.consent.since),
]) if {
	not lib.begun(lib.consent)
}

# METADATA
# title: What is wrong with the job
# description: As for the grant.
job_problem := sprintf("policy has no class of jobs for the algorithm %s", [input.request.algorithm]) if {
	not job
} else := sprintf("jobs such as %s may not run %s; leave where out", [input.request.algorithm, place]) if {
	not destination in job.destinations
} else := sprintf("%s code may not run %s; it must be one of: %s", [kind, place, concat(", ", {r | some r in job.runners[destination]})]) if {
	not runner in job.runners[destination]
} else := sprintf("%d executions are asked for; jobs such as %s may have %d at most", [
	input.request.copies,
	input.request.algorithm,
	job.copies,
])

# METADATA
# title: The destination in a sentence
# description: Inside the site, or outside.
place := object.get({"local": "on the local cluster", "outside": "outside"}, destination, destination)

# METADATA
# title: The kind of code in a sentence
# description: Code that is none has no kind.
kind := object.get({"": "no"}, runner, runner)

# METADATA
# title: Columns of the row filter that the catalog does not list
# description: For the sentence that names them.
foreign_columns contains column if {
	is_object(row_filter)
	some column, _ in row_filter
	not column in catalog_columns
}
