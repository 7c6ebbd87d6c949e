"""TensorFlow: SavedModels, frozen graphs, Keras files and TFLite."""
