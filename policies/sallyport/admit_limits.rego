# What bounds the job, and where it may run.

package sallyport.admit

import data.sallyport.lib

# METADATA
# title: What bounds the job
# description: |
#   The lowest of what the table's row, the class of the job, the project and the
#   request say; of copies the highest. All fields must be defined.
limits := {
	"key_ttl": row.key_ttl,
	"price": min({row.price, job.price} | {p | p := input.request.max_price; p > 0}),
	"budget": min({row.budget, job.budget, object.get(lib.project, "budget", row.budget)}),
	"copies": max({row.copies, object.get(input.request, "copies", 0)}),
	"regions": regions,
	"min_class": min_class,
	"max_unique": row.max_unique,
	"reviews": row.reviews,
}

# METADATA
# title: The smallest class that may leave
# description: The table's, or what it lets an exception lower that to.
min_class := row.min_class if not relaxed

min_class := data.rules.exceptions.min_class if relaxed

# METADATA
# title: A smaller class by exception
# description: Only where it makes a difference.
relaxed if {
	count(lib.exceptions["release.class"]) > 0
	data.rules.exceptions.min_class < row.min_class
}

# METADATA
# title: Where outside machines must stand
# description: |
#   In a region of the dataset's residency, and of the table for its class; local
#   machines are where the data already are. Empty is anywhere: see the check
#   admit.jurisdiction.
# scope: document
regions := [] if destination == "local"

regions := within(residency) if {
	destination == "outside"
	"*" in lib.class.jurisdictions
}

regions := within(jurisdictions) if {
	destination == "outside"
	not "*" in lib.class.jurisdictions
	residency == set()
}

regions := {region | some region in within(residency); permitted(region)} if {
	destination == "outside"
	not "*" in lib.class.jurisdictions
	residency != set()
}

# METADATA
# title: A region where the table lets data of this class go
# description: Listed itself, or in a group that is.
# scope: document
permitted(region) if region in lib.class.jurisdictions

permitted(region) if {
	some name in lib.class.jurisdictions
	region in data.rules.jurisdictions[name]
}

# METADATA
# title: The dataset's residency
# description: Empty where it may be anywhere that its class may.
residency := {region | some region in lib.dataset.residency}

# METADATA
# title: Where the table lets data of this class go
# description: Regions and groups of them.
jurisdictions := {region | some region in lib.class.jurisdictions}

# METADATA
# title: Regions and the members of those that are groups
# description: The table's groups list groups as well, so that a machine that names one is found.
within(names) := names | {region |
	some name in names
	some region in data.rules.jurisdictions[name]
}
