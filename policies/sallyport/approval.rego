# METADATA
# title: Which acts need two people
# description: |
#   Acts outside the passage that one person alone may not do. The gateway asks
#   by the act's name; an act that is not in the set needs one person.
package sallyport.approval

# METADATA
# title: The acts that need two people
# description: The table lists them; without the table every act needs two.
# scope: document
two_person contains act if some act in data.rules.two_person

two_person contains "*" if not data.rules.two_person
