# METADATA
# title: What both doors look up
# description: |
#   Keyed lookups into the catalog, the site, the register and the table, each
#   undefined where there is nothing to find. A check that needs it then does
#   not pass.
# schemas:
#   - input: schema.v1.admission
package sallyport.lib

# METADATA
# title: The dataset's catalog entry
# description: Undefined for a dataset that the catalog does not hold.
dataset := data.catalog.datasets[input.dataset]

# METADATA
# title: The project as the site describes it
# description: Undefined for a project that the site does not have.
project := data.site.projects[input.project]

# METADATA
# title: The person as the site lists them
# description: Undefined for a person whom the site does not list.
person := data.site.people[input.subject.id]

# METADATA
# title: The table's row for the dataset's sensitivity
# description: Undefined for a sensitivity that the table does not have.
class := data.rules.classes[dataset.sensitivity]

# METADATA
# title: The grant of the project for the dataset
# description: Undefined where there is none, current or not, and where there is no register.
grant := data.register.grants[input.dataset][input.project]

# METADATA
# title: The consent on record for dataset and purpose
# description: As for the grant.
consent := data.register.consents[input.dataset][input.purpose]

# METADATA
# title: The roles that count
# description: |
#   What the gateway established when the person was identified. Where the site
#   lists the person, only roles it still gives them count, so that a role that
#   was withdrawn while a job waited is gone at the second door.
roles := {role | some role in input.subject.roles; role in person.roles} if {
	person
} else := {role | some role in input.subject.roles}

# METADATA
# title: The projects that count
# description: As for roles.
projects := {name | some name in input.subject.projects; name in person.projects} if {
	person
} else := {name | some name in input.subject.projects}

# METADATA
# title: The time of the question
# description: In nanoseconds. What was recorded is compared with it, never with a clock.
now := time.parse_rfc3339_ns(input.time)

# METADATA
# title: Something that has begun
# description: Its since is not later than the question. Without one it has not.
begun(entry) if time.parse_rfc3339_ns(entry.since) <= now

# METADATA
# title: Something that has not ended
# description: Its until is later than the question. Without one it has.
lasts(entry) if now < time.parse_rfc3339_ns(entry.until)

# METADATA
# title: The exceptions that hold, by the check that they waive
# description: |
#   An exception holds for its dataset and project, for its purpose where it
#   names one, while it lasts, and only if another person approved it than the
#   one who asked for it and the one who uses it. The table says which checks an
#   exception may waive at all.
exceptions[label] contains id if {
	# sallyport-ignore: linear-scan a site has a handful of exceptions, and an allowing answer mostly asks for none
	some id, exception in data.register.exceptions
	exception.dataset == input.dataset
	exception.project == input.project
	object.get(exception, "purpose", input.purpose) == input.purpose
	exception.asked_by != ""
	exception.approved_by != ""
	exception.approved_by != exception.asked_by
	exception.approved_by != input.subject.id
	is_string(exception.approved_by)
	begun(exception)
	lasts(exception)
	some label in exception.checks
	label in data.rules.exceptions.waivable
}

# METADATA
# title: The label of an exception in a verdict
# description: So that the record shows who was let through by which.
label(id) := sprintf("exception.%s", [id])

# METADATA
# title: The first ten characters of a time
# description: Its date, for sentences.
day(text) := substring(text, 0, 10)
