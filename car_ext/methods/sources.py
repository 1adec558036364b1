"""Papers that several methods are from."""

DECOUPLING = "Kang et al., ICLR 2020"
