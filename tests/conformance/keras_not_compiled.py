"""Keras models that XLA does not compile, and why; the measured mode runs them all."""

_LISTED = r"work has the operation {} \(\S+\), which XLA is not known to execute"
# Keras' loops over time have tensor lists without a fixed size.
_LOOP = (
    r"XLA cannot compile the operation \S+ of the clients' work "
    r"\(XLA compilation requires a fixed tensor list size"
)
# A number for each real example, whose count is known when the program runs.
_COUNTED = (
    r"XLA cannot compile the clients' work \(.*StatelessRandomUniformFullIntV2 "
    r"must be a compile-time constant"
)
_PROJECTED = _LISTED.format(r"ImageProjectiveTransformV3\w*")

REASONS = {
    "pad_and_crop_2d": _LISTED.format("ResizeBilinear"),
    "resizing_and_rescaling": _LISTED.format("OptionalFromValue"),
    "activation_strings": _LISTED.format("SeluGrad"),
    "conv_lstm_1d": _LOOP,
    "conv_lstm_2d": _LOOP,
    "conv_lstm_3d": _LOOP,
    "dropout_and_statistics": _COUNTED,
    "attention_dropout": _COUNTED,
    "own_random_layer": _COUNTED,
    "random_rotation": _PROJECTED,
    "random_zoom": _PROJECTED,
    "random_translation": _PROJECTED,
    "random_stack": _PROJECTED,
    "random_crop": _LISTED.format("OptionalFromValue"),
    "random_height_and_width": _LISTED.format("ResizeBilinear"),
    "random_contrast": _LISTED.format("AdjustContrastv2"),
    "hinge": _LISTED.format("OptionalFromValue"),
    "discretization": _LISTED.format("Bucketize"),
    "hashing": _LISTED.format("AsString"),
    "string_lookup": _LISTED.format("LowerBound"),
    "integer_lookup": _LISTED.format("(DenseBincount|LowerBound)"),
    "hashed_crossing": _LISTED.format("SparseCross"),
    "category_encoding": _LISTED.format("DenseBincount"),
    "text_vectorization": _LISTED.format("Bincount"),
    # A loop whose tensor grows.
    "radial": (
        r"XLA cannot compile the operation \S+map/\S+ of "
        r"the clients' work \(Input and output shapes of loop body do not match"
    ),
}
