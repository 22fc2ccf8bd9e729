# METADATA
# title: What must hold of the table in force
# description: |
#   The only tests that read data.json. A number or a list of it can be changed
#   without touching any test, as long as these hold; one that fails says by its
#   name what a change has broken.
package sallyport.table_test

import data.sallyport.admit
import data.sallyport.release

# From least to most guarded.
classes := ["public", "internal", "confidential", "restricted"]

sides := ["local", "outside"]

fields := {
	"may", "columns", "key_ttl", "price", "budget", "copies", "min_records", "min_class", "max_unique", "min_l", "max_t",
	"min_combined", "max_undeclared", "max_releases", "releases_window_days", "reviews", "residual",
}

# The rows by which data go somewhere.
rows contains {"class": class, "side": side, "row": row} if {
	some class in classes
	some side in sides
	row := data.rules.classes[class][side]
	row.may == true
}

# The rows of two classes by which data go outside, the less guarded first.
pairs contains [rows_of[less], rows_of[more]] if {
	some i, less in classes
	some j, more in classes
	i < j
}

rows_of[entry.class] := entry.row if {
	some entry in rows
	entry.side == "outside"
}

test_every_class_has_both_rows if {
	object.keys(data.rules.classes) == {class | some class in classes}
	every class in data.rules.classes {
		is_boolean(class.grant)
		is_array(class.jurisdictions)
		every side in sides { is_boolean(class[side].may) }
	}
}

test_every_row_has_every_field if {
	every entry in rows { object.keys(entry.row) == fields }
}

test_numbers_are_within_their_bounds if {
	every entry in rows {
		every field in fields - {"may", "columns", "residual"} { is_number(entry.row[field]) }
		every field in ["price", "budget", "min_records", "min_class", "min_l", "min_combined", "max_releases"] { entry.row[field] >= 0 }
		every field in ["key_ttl", "copies", "releases_window_days"] { entry.row[field] >= 1 }
		every field in ["max_unique", "max_t", "max_undeclared"] {
			entry.row[field] >= 0
			entry.row[field] <= 1
		}
		entry.row.reviews in {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
		every type, word in entry.row.residual {
			type != ""
			word in {"deny", "tolerate"}
		}
	}
}

test_restricted_data_stay_inside if data.rules.classes.restricted.outside.may == false

test_jobs_go_by_default_where_they_may if {
	every class in data.rules.classes { class[class["default"]].may == true }
}

test_no_class_is_looser_outside_than_a_less_guarded_one if {
	every pair in pairs {
		every field in ["min_records", "min_class", "min_l", "min_combined", "reviews"] { pair[1][field] >= pair[0][field] }
		every field in ["max_unique", "max_t", "max_undeclared"] { pair[1][field] <= pair[0][field] }
		every type in object.keys(pair[0].residual) | object.keys(pair[1].residual) {
			not looser(pair[1].residual, pair[0].residual, type)
		}
	}
}

looser(more, less, type) if {
	treats(more, type) == "tolerate"
	treats(less, type) == "deny"
}

treats(residual, type) := object.get(residual, type, object.get(residual, "*", "deny"))

test_rows_name_tables_of_columns if {
	every entry in rows { is_object(data.rules.columns[entry.row.columns]) }
}

# What a table of columns says must be what its key can mean.
words := {"": "keep", "*": "keep", "keep": "keep"}

test_tables_of_columns_say_what_the_gateway_can_do if {
	every table in data.rules.columns {
		object.keys(table) - {"direct", "quasi", "sensitive", "insensitive"} == set()
		every choices in table {
			every key, word in choices {
				key in (object.keys(words) | verbs)
				word == object.get(words, key, "apply")
			}
		}
	}
}

test_direct_identifiers_never_stay_as_they_are if {
	every table in data.rules.columns { not "keep" in {word | some word in object.get(table, "direct", {})} }
}

test_quasi_identifiers_go_outside_only_treated_or_on_the_stewards_word if {
	every entry in rows { not careless(entry) }
}

careless(entry) if {
	entry.side == "outside"
	some key in {"", "*"}
	data.rules.columns[entry.row.columns].quasi[key]
}

# What this gateway can do with a value. Add your own where yours can do more.
verbs := {
	"drop", "pseudonym", "ff1", "encrypt", "generalize", "round", "microaggregate", "date", "prefix", "zip3", "shift_date", "cap",
	"age90", "hierarchy", "mask", "replace",
}

bounds := {"in", "min", "max"}

categories := {
	"name", "geographic", "date", "age", "telephone", "fax", "email", "ssn", "record", "beneficiary", "account",
	"license", "vehicle", "device", "url", "ip", "biometric", "photo", "other", "none",
}

test_standards_say_what_the_gateway_can_do if {
	every standard in data.rules.standards {
		object.keys(standard) - categories == set()
		every category in standard {
			object.keys(category) - {"any", "verbs"} == set()
			every verb, arguments in object.get(category, "verbs", {}) {
				verb in verbs
				every bound in arguments { object.keys(bound) - bounds == set() }
			}
		}
	}
}

# HIPAA, 45 CFR 164.514(b)(2)(i), names eighteen; only what is none of them may
# leave without a treatment.
test_safe_harbor_has_every_category if {
	object.keys(data.rules.standards.safe_harbor) == categories
	{name | some name, category in data.rules.standards.safe_harbor; category.any == true} - {"none"} == set()
}

acts := {
	"job:run", "dataset:edit", "register:edit", "data:reidentify", "audit:read", "audit:erase", "audit:hold", "policy:edit", "policy:approve", "exception:approve",
	"result:review",
}

held := {act | some role in data.rules.roles; some act in role.may}

test_roles_do_what_there_is if held - acts == set()

# Without these, nobody could run a job, or change this table again.
test_nobody_is_locked_out if {"job:run", "policy:edit", "policy:approve"} - held == set()

test_no_role_edits_and_approves if {
	every role in data.rules.roles {
		count({"policy:edit", "policy:approve"} & {act | some act in role.may}) < 2
		count({"register:edit", "exception:approve"} & {act | some act in role.may}) < 2
	}
}

test_two_person_acts_are_what_there_is if {
	{act | some act in data.rules.two_person} - {"policy.publish", "exception.grant", "audit.erase", "key.destroy"} == set()
}

test_classes_name_jurisdictions if {
	known := {name | some name, _ in data.rules.jurisdictions} | {name | some list in data.rules.jurisdictions; some name in list}
	every class in data.rules.classes { {name | some name in class.jurisdictions} - (known | {"*"}) == set() }
}

# A machine that announces the group must be found, and one in a group within it.
test_groups_list_themselves_and_what_is_in_them if {
	every name, list in data.rules.jurisdictions {
		name in list
		every inner in list {
			{region | some region in object.get(data.rules.jurisdictions, inner, [])} - {region | some region in list} == set()
		}
	}
}

test_algorithms_have_classes if {
	every class in data.rules.jobs.algorithms { is_object(data.rules.jobs.classes[class]) }
}

test_jobs_say_where_and_as_what if {
	every job in data.rules.jobs.classes {
		{side | some side in job.destinations} - {"local", "outside"} == set()
		every side in job.destinations { is_array(job.runners[side]) }
		every side, kinds in job.runners {
			side in sides
			{kind | some kind in kinds} - {"", "wasm", "native"} == set()
		}
		job.price >= 0
		job.budget >= 0
		job.copies >= 1
	}
}

# Native code is confined by the owner of a machine alone.
test_native_code_stays_inside if {
	every job in data.rules.jobs.classes { not "native" in object.get(job.runners, "outside", []) }
}

test_waivable_checks_exist if {
	{label | some label in data.rules.exceptions.waivable} - (object.keys(admit.checks) | object.keys(release.checks)) == set()
}

# Who somebody is, and that it was measured at all, is nothing to make an exception from.
test_no_exception_waives_who_or_whether if {
	{label | some label in data.rules.exceptions.waivable} & {
		"admit.request", "admit.role", "admit.project", "admit.member", "admit.dataset", "admit.columns", "admit.rows",
		"release.admitted", "release.destination", "release.exact", "release.census", "release.columns", "release.rows",
		"release.actions",
	} == set()
}

test_an_exception_never_lets_one_person_stand_alone if data.rules.exceptions.min_class >= 2
