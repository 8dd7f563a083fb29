"""Questions that a search engine helps to answer, in the protocol of Search-R1 (Jin et al. 2025, arXiv:2503.09516).

`library` holds passages, their index and the questions; `world` invents them (with the names of `names`), `files` reads
the user's own; `answers` compares answers, `environment` is the environment.
"""
