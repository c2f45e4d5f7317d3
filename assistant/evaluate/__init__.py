"""Measuring retrieval and answers on questions whose answers are known.

Needs the extra `eval`; nothing else imports it.
"""
