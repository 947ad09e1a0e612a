"""The small networks that stand in for LLaVA, Unicom, CLIP, BLIP and BLIP-2, and their training."""
