"""Models: settings that build torch modules from preprocessed inputs to logits."""
