"""Multi-round conversational recommendation (EAR, WSDM 2020; SCPR, KDD 2020; UNICORN, SIGIR 2021).

The user reveals one attribute value of the wanted item. In each turn the agent asks about attribute
values or recommends items; the user answers truthfully, accepts a target and refuses anything else.

- `space`: the facts of a catalogue as a matrix, and the questions about them.
- `talk`: the sentences of both sides, and how each side reads the other's.
- `rounds`: the state of many dialogues as arrays, and the user in numpy.
- `embeddings`: vectors of users, items and facts (`vectors`), trained by an FM or TransE (`fm`,
  `transe`).
- `policy`: the interface of policies, and two rules; `agent`: an agent that follows a policy.
- `practice`: training dialogues; `trained`: policies that are trained in them; `reinforce`: the
  networks of `ear`, `crm` and `crif`.
"""
