"""The demo's data set of real images: the emoji of OpenMoji, with changes written from their metadata."""
