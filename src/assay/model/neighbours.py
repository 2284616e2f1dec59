"""The parts of a model that look at neighbouring tokens, each switched by one name where an architecture has it."""

from pydantic import Field, model_validator

from assay.model.architecture import ModelConfig

USUAL_WIDTH = 4


class ShortConvolution(ModelConfig):
    """Adds a short convolution in front of the mixer's memory."""

    short_conv: bool = True
    """Whether there is one."""
    conv_width: int = Field(USUAL_WIDTH, ge=2)
    """Tokens that a filter sees."""

    @model_validator(mode="after")
    def _width_of_something(self) -> "ShortConvolution":
        if not self.short_conv and self.conv_width not in (0, USUAL_WIDTH):
            raise ValueError(
                f"model.conv_width: {self.conv_width} given, short_conv=false leaves it out; give one of them"
            )
        return self

    @property
    def filter_width(self) -> int:
        """Tokens that a filter sees; 0 where there is none."""
        return self.conv_width if self.short_conv else 0


class TokenShift(ModelConfig):
    """Adds the mixing of each token with the one before it, in mixer and channel mixer."""

    token_shift: bool = True
    """Whether there is one."""
