"""Multi-round conversational recommendation (EAR, WSDM 2020; SCPR, KDD 2020; UNICORN, SIGIR 2021).

The user reveals one attribute value of the wanted item. In each turn the agent asks about attribute
values or recommends items; the user answers truthfully, accepts a target and refuses anything else.

- `space`: the facts of a catalogue as a matrix, and the questions about them.
- `talk`: questions and answers in words, and how both sides read them.
- `rounds`: many dialogues at once, as arrays: what an agent knows, and the user in numpy.
- `embeddings`: vectors of users, items and facts, trained by an FM or TransE (`fm`, `transe`).
- `policy`: what decides; `agent`: an agent that lets a policy decide.
- `reinforce`: the policy networks of `ear`, `crm` and `crif`.
"""
