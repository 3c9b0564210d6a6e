"""Images with label maps or boxes beside them, where a command takes images alone."""


def refuse_boxes(*sources: str | None) -> None:
    """Raises ValueError for images with boxes, whose folder would be taken for a class."""
    from mimzoo.data.box_signs import has_boxes

    for source in sources:
        if source is not None and has_boxes(source):
            raise ValueError(
                f"{source} has boxes beside its images: add --task detect to learn them."
            )


def refuse_label_maps(advice: str, *sources: str | None) -> None:
    """Raises ValueError for images with label maps, which would count as images, too."""
    from mimzoo.data.label_map_files import has_label_maps

    for source in sources:
        if source is not None and has_label_maps(source):
            raise ValueError(f"{source} has a label map beside each image: {advice}.")
