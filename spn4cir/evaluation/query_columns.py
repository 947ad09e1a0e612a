"""Names of columns of the table of queries, for modules that read the table and score nothing."""

# Beginning of the names of the columns that contain the answers of the stage-1 weights.
STAGE1 = "stage1_"
