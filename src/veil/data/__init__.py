"""What goes in: batches, splits, the decoded cache, and one file per source.

From a source to a method: a configuration (`celeba.CelebAConfig`, `table.TableConfig`,
`synthfaces.SynthFacesConfig`; all of them in `sources.SOURCES`) decodes its images once into the
cache (`cache.py`) and gives four `Splits` that share no person and no picture; a split is a
`Dataset`, whose `batch` is what a method sees.
"""
