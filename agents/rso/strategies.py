"""What each strategy of the planner asks the actor to do (RSO, Table I and section V-B2).

The names are those of INSPIRED's labels. The descriptions are ours, after Table I. Table I leaves
out Preference Confirmation, which the data, section V-B2 and Figure 3 have.
"""

from __future__ import annotations

from collections.abc import Mapping

STRATEGIES: Mapping[str, str] = {
    "Credibility": "show that you know the subject: state facts about the item, such as its plot, "
    "its makers or its genre",
    "Personal Opinion": "say what you think of the item, without contradicting the facts",
    "Encouragement": "praise the user's taste and encourage the user to try the item",
    "Acknowledgment": "answer briefly and warmly, and show that you are pleased",
    "Similarity": "agree with the user, or say that you like the same things",
    "Offer Help": "offer your help in finding something that suits the user",
    "Personal Experience": "describe an experience that you had with the item, without "
    "contradicting the facts",
    "Self Modeling": "set an example: say that you have enjoyed the item, or are about to",
    "Transparency": "be open about how you choose what to recommend, or check what the user wants "
    "before you recommend",
    "Preference Confirmation": "check whether you have understood what the user likes",
    "Opinion Inquiry": "ask what the user thinks of certain properties, such as plot or actors",
    "Experience Inquiry": "ask what the user has seen or tried before, and how it was",
    "Rephrase Preference": "say in your own words what you think the user wants, and ask the user "
    "to confirm it",
    "No Strategy": "talk naturally, without any particular strategy",
}
INQUIRIES = frozenset(
    ("Preference Confirmation", "Opinion Inquiry", "Experience Inquiry", "Rephrase Preference")
)
"""Strategies whose turn is a question unless it recommends something."""
