"""Attacks that measure what training leaks: audits of a privacy claim, not proofs of one."""
