"""From a checkpoint to the `nn` dialect: checkpoint readers, config translation and tokenizers."""
