"""Which plug-ins an arm needs: what brought its architecture, its layers and its corpus, each with its digest."""

from assay.data.config import DataConfig
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig


def arm_plugins(architecture: Architecture, config: ModelConfig, data: DataConfig) -> dict[str, str]:
    """Name of each plug-in -> SHA-256 of its source."""
    return {}
