# METADATA
# title: What both doors look up
# description: |
#   Keyed lookups into the catalog, the site and the table, each undefined where
#   there is nothing to find. A check that needs it then does not pass.
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
# title: The table's row for the dataset's sensitivity
# description: Undefined for a sensitivity that the table does not have.
class := data.rules.classes[dataset.sensitivity]

# METADATA
# title: The roles that count
# description: |
#   What the gateway established when the person was identified. Where the site
#   lists the person, only roles it still gives them count, so that a role that
#   was withdrawn while a job waited is gone at the second door.
roles contains role if {
	some role in input.subject.roles
	not data.site.people[input.subject.id]
}

roles contains role if {
	some role in input.subject.roles
	role in items(data.site.people[input.subject.id], "roles")
}

# METADATA
# title: The projects that count
# description: As for roles.
projects contains name if {
	some name in input.subject.projects
	not data.site.people[input.subject.id]
}

projects contains name if {
	some name in input.subject.projects
	name in items(data.site.people[input.subject.id], "projects")
}

# METADATA
# title: An entry's list as a set
# description: Empty where the list is absent, null or no list.
items(object_, key) := {item | some item in object.get(object_, key, [])}

# METADATA
# title: The verb of a mask
# description: The empty mask keeps the value; every other has one verb.
verb(mask) := "keep" if mask == {}

verb(mask) := name if some name, _ in mask
