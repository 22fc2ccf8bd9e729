# METADATA
# title: Who may do what outside the passage
# description: |
#   Acts that are no use of data: editing a rule, approving an exception, reading
#   the record. The gateway asks by the act's name.
# schemas:
#   - input: schema.v1.admission
package sallyport.approval

import data.sallyport.lib

# METADATA
# title: The acts that need two people
# description: |
#   The table lists them; an act that is not in the set needs one person, and
#   without the table every act needs two.
# scope: document
two_person contains act if some act in data.rules.two_person

two_person contains "*" if not data.rules.two_person

# METADATA
# title: What the person may do
# description: |
#   By the roles that count today, each with what the table says it may. A person
#   without a name may nothing.
may contains act if {
	input.subject.id != ""
	some role in lib.roles
	some act in data.rules.roles[role].may
}
