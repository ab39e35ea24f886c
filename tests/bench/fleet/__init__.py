"""One operator with many connectors. `run` measures, `promises` judges, `page` tells."""
