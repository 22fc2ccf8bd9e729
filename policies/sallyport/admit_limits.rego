# What bounds the job, and where it may run.

package sallyport.admit

import data.sallyport.lib

# METADATA
# title: What bounds the job
# description: |
#   The lowest of what the table's row, the class of the job, the project and the
#   request say; of copies the highest. All fields must be defined.
limits := {
	"key_ttl": at.key_ttl,
	"price": min([at.price, job.price, asked_price]),
	"budget": min([at.budget, job.budget, object.get(lib.project, "budget", at.budget)]),
	"copies": max([at.copies, object.get(input.request, "copies", 0)]),
	"regions": regions,
	"min_class": min_class,
	"max_unique": at.max_unique,
	"reviews": at.reviews,
} if {
	at := row
}

# METADATA
# title: The price that the request is willing to pay
# description: Zero, or none, is whatever the table allows.
asked_price := input.request.max_price if {
	input.request.max_price > 0
} else := row.price

# METADATA
# title: The smallest class that may leave
# description: The table's, or what it lets an exception lower that to.
min_class := row.min_class if not relaxed

min_class := data.rules.exceptions.min_class if relaxed

# METADATA
# title: A smaller class by exception
# description: Only where it makes a difference.
relaxed if {
	data.rules.exceptions.min_class < row.min_class
	count(lib.exceptions["release.class"]) > 0
}

# METADATA
# title: Where outside machines must stand
# description: |
#   In a region of the dataset's residency, and of the table for its class; local
#   machines are where the data already are. Empty is anywhere: see the check
#   admit.jurisdiction.
regions := [] if {
	destination == "local"
} else := resident if {
	destination == "outside"
	"*" in jurisdictions
} else := within(jurisdictions) if {
	destination == "outside"
	residency == set()
} else := (resident & jurisdictions) | in_groups if {
	destination == "outside"
}

# METADATA
# title: Where the dataset may be
# description: Its residency, groups written out.
resident := within(residency)

# METADATA
# title: Regions of the residency that a group of the class has
# description: Those that the class lists themselves are not looked for.
in_groups := {region |
	some region in resident
	some name in jurisdictions
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
