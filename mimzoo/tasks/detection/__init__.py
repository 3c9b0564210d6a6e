"""Detection: backbones with heads that give boxes, their classes and scores."""
