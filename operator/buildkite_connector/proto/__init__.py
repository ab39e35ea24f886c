"""C1's messages: the `.proto` files of this project and the code generated from them.

The contract is C1's; `make proto` regenerates the code, `make check` fails when it is not current.
The snapshot adapter stores the `c1.connector.v2` messages, the C1 adapter speaks BatonService.
"""
