"""Enrichment: who an edge belongs to, who is at its other end, and which route a path stands for."""
