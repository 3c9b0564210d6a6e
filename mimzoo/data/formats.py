"""Which files are images: by their suffix, and whether the installed Pillow decodes them."""

import functools

# What Pillow decodes, and what it decodes with a plugin (.heic, .jxl) or since a later version
# (.avif). A fixed list, so that an index of shards holds the same images on every machine.
_SUFFIXES = """
.apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .fit .fits .flc .fli .ftc .ftu .gbr .gif .heic
.heif .hif .icb .icns .ico .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .mpo .msp
.pbm .pcd .pcx .pfm .pgm .png .pnm .ppm .psd .pxr .qoi .ras .rgb .rgba .sgi .tga .tif .tiff .vda
.vst .webp .xbm .xpm
"""
SUFFIXES = frozenset(_SUFFIXES.split())
# Images all the same, which have to be converted first.
_NEVER = ".arw .cr2 .cr3 .dng .emf .eps .exr .hdr .jxr .nef .orf .raf .raw .rw2 .svg .wmf"
NEVER_DECODED = frozenset(_NEVER.split())
# Formats that Pillow names but leaves to others: Ghostscript, Windows, handlers of the user's.
_LEFT_TO_OTHERS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
# Codecs that Pillow may have been built without.
_CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_COMMON = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_HIDDEN = ("__MACOSX", "lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN")
_HIDDEN += ("System Volume Information",)


def suffix(name: str) -> str:
    """ ".jpg" of "a/1.JPG"; something that is no suffix where there is none."""
    return name[name.rfind(".") :].lower()


def is_image_name(name: str) -> bool:
    """Whether a relative path ends like an image and no part of it is hidden."""
    return suffix(name) in SUFFIXES and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a part of a relative path is hidden, or an archiver's or file system's own."""
    if name.startswith(".") or "/." in name:
        return True
    return any(word in name for word in _HIDDEN) and any(p in _HIDDEN for p in name.split("/"))


def decoders() -> tuple[str, ...]:
    """The formats that the installed Pillow and its registered plugins decode, common ones first.

    Pillow's other formats are never tried, so no file can make it start another program.
    """
    from PIL import Image

    Image.init()
    return _decoders(len(Image.ID))


@functools.lru_cache(maxsize=1)
def _decoders(_known: int) -> tuple[str, ...]:
    from PIL import Image, features

    lacking = {name for name, codec in _CODECS.items() if not features.check(codec)}
    names = [name for name in Image.ID if name not in _LEFT_TO_OTHERS | lacking]
    return tuple(sorted(names, key=lambda name: name not in _COMMON))


def readable_suffixes() -> frozenset[str]:
    """The suffixes of all formats in `decoders`."""
    from PIL import Image

    # MPO files, of cameras with two lenses, are opened as JPEG.
    names = {*decoders(), "MPO"}
    return frozenset(end for end, name in Image.EXTENSION.items() if name in names)


def unreadable(name: str) -> str | None:
    """Why a file with an image's name cannot be read by Pillow here; None if it can, or is none."""
    end = suffix(name)
    if end in readable_suffixes() or end not in SUFFIXES | NEVER_DECODED:
        return None
    if end in (".heic", ".heif", ".hif"):
        return "Pillow reads it only with the package pillow-heif, registered before"
    return f"Pillow here does not read {end}"
