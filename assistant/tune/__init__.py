"""Fine-tuning: what models learn from the desk, and which of them is good enough to answer."""
