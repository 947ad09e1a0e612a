"""Drawing of the demo's data: data sets in their published layouts, pools, and the training images of the models."""
