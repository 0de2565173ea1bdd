"""The Export section: results as label map files and DICOM."""
