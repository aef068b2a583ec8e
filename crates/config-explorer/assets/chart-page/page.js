// Draws the chart in #data with Apache ECharts. What it shows is decided by the program that wrote the page; this script
// decides only how.
(() => {
  'use strict';
  const page = JSON.parse(document.getElementById('data').textContent);
  const { chart, looks } = page;
  const { xy, bars } = chart.content;
  const element = (id) => document.getElementById(id);
  const darkScreen = matchMedia('(prefers-color-scheme: dark)');
  const font = 'Inter, system-ui, "Helvetica Neue", Arial, sans-serif';
  const isLog = { x: xy?.x.scale === 'log', y: xy?.y.scale === 'log' };

  element('title').textContent = chart.title;
  element('subtitle').textContent = chart.subtitle;

  const colours = () => {
    const dark = page.theme === 'dark' || (page.theme === 'auto' && darkScreen.matches);
    return dark ? page.dark : page.light;
  };
  const colourOf = (look) => (look.colour === null ? colours().muted : colours().series[look.colour]);
  const heading = (axis) => axis.label + (axis.unit ? ` (${axis.unit})` : '') + (axis.hint ? `, ${axis.hint}` : '');
  const numberText = (value) => {
    const size = Math.abs(value);
    if (size > 0 && (size < 1e-6 || size >= 1e15)) return value.toExponential(3).replace('e+', 'e');
    const digits = Math.max(0, size > 0 ? 3 - Math.floor(Math.log10(size)) : 0);
    return value.toLocaleString('en', { maximumFractionDigits: Math.min(digits, 20) });
  };
  const tickText = (value) => {
    for (const [size, suffix] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M']]) {
      if (Math.abs(value) >= size && Math.abs(value) < 1e15) return numberText(value / size) + suffix;
    }
    return numberText(value);
  };

  // Text of runs is foreign: it enters the page as text, never as HTML.
  const tooltip = (lines) => {
    const box = document.createElement('div');
    lines.filter((line) => line).forEach((line, index) => {
      const row = document.createElement('div');
      row.textContent = line;
      if (index === 0 && lines.length > 1) row.style.fontWeight = '600';
      box.append(row);
    });
    return box;
  };

  const usable = (x, y) => !((isLog.x && x <= 0) || (isLog.y && y <= 0));
  const pointsOf = (marks) => marks.line ?? marks.line_and_points ?? marks.points ?? marks.steps ?? [];

  // The page takes logarithms itself: the axes of ECharts zoom evenly only over plain numbers.
  const to = (name, value) => (isLog[name] ? Math.log10(value) : value);
  const from = (name, position) => (isLog[name] ? Number((10 ** position).toPrecision(12)) : position);

  const linearTicks = (low, high, most) => {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((multiple) => multiple * power >= rough * (1 - 1e-9));
    const ticks = [];
    for (let index = Math.ceil(low / step - 1e-6); index * step <= high * (1 + 1e-9) && ticks.length < 100; index++) {
      ticks.push(Number((index * step).toPrecision(12)));
    }
    return ticks;
  };

  // Decades and their parts, or fewer or finer values: about as many as there is room for.
  const logTicks = (low, high, most) => {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const make = (multiples, every) => {
      const ticks = [];
      for (let exponent = Math.ceil(first / every) * every; exponent <= last; exponent += every) {
        for (const multiple of multiples) {
          const value = Number(`${multiple}e${exponent}`);
          if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push(value);
        }
      }
      return ticks;
    };
    const candidates = [make([1, 2, 5], 1), make([1, 3], 1), make([1], 1)];
    const ticks = candidates.find((candidate) => candidate.length <= most)
      ?? make([1], Math.ceil((last - first + 1) / most));
    return ticks.length >= 3 || high / low > 30 ? ticks : linearTicks(low, high, most);
  };

  // Ends of an axis as positions: the data with a little room, 0 on a linear one, and what the user has set.
  const extent = (name, axis) => {
    let low = Infinity, high = -Infinity;
    const add = (value) => {
      if (isLog[name] && !(value > 0)) return;
      low = Math.min(low, value);
      high = Math.max(high, value);
    };
    for (const series of xy?.series ?? []) {
      for (const point of pointsOf(series.marks)) if (usable(point.x, point.y)) add(point[name]);
      for (const bin of series.marks.bins ?? []) {
        (name === 'x' ? [bin.low, bin.high] : [bin.count, bin.count / 2]).forEach(add);
      }
    }
    for (const bar of bars?.bars ?? []) add(bar.segments.reduce((sum, segment) => sum + segment.value, 0));
    if (low > high) [low, high] = [1, 10];
    if (!isLog[name]) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    const span = (a, b) => (isLog[name] ? Math.max(1, to(name, b) - to(name, a)) : b - a);
    for (const { value } of axis.limits) {
      // A limit far away would squeeze the data.
      if ((!isLog[name] || value > 0) && span(Math.min(low, value), Math.max(high, value)) <= 2 * span(low, high)) add(value);
    }
    let [start, end] = [to(name, low), to(name, high)];
    if (start === end) [start, end] = isLog[name] ? [start - 0.3, end + 0.3] : [0, 1];
    const pad = 0.05 * (end - start);
    if (isLog[name] || start < 0) start -= pad;
    if (isLog[name] || end > 0) end += pad;
    const { min, max } = axis.range;
    const set = (value) => value !== null && (!isLog[name] || value > 0);
    if (set(min)) start = to(name, min);
    if (set(max)) end = to(name, max);
    return start < end ? [start, end] : [start, start + 1];
  };

  // Axis labels at round values of the part that is shown.
  const tickOption = (name, [start, end]) => {
    const length = name === 'x' ? element('plot').clientWidth : element('plot').clientHeight;
    const most = Math.max(2, Math.floor(length / (name === 'x' ? 70 : 45)));
    const make = isLog[name] ? logTicks : linearTicks;
    const ticks = make(from(name, start), from(name, end), most).map((value) => to(name, value));
    return { axisLabel: { customValues: ticks }, axisTick: { customValues: ticks } };
  };

  const axisOption = (name, axis) => {
    const c = colours();
    const length = name === 'x' ? element('plot').clientWidth : element('plot').clientHeight;
    const [min, max] = extent(name, axis);
    const ticks = tickOption(name, [min, max]);
    return {
      type: 'value', min, max,
      name: heading(axis), nameLocation: 'middle', nameGap: name === 'x' ? 30 : 58,
      nameTextStyle: { color: c.faint_text, fontSize: 13, fontFamily: font },
      nameTruncate: { maxWidth: Math.max(80, length - 60) },
      axisLine: { show: true, onZero: false, lineStyle: { color: c.axis } },
      axisTick: { ...ticks.axisTick, show: true, lineStyle: { color: c.axis } },
      splitLine: { show: true, lineStyle: { color: c.grid } },
      axisLabel: { ...ticks.axisLabel, color: c.text, fontSize: 12, fontFamily: font, hideOverlap: true,
                   formatter: (position) => tickText(from(name, position)) },
    };
  };

  const limitMarks = (axis, key) => axis.limits
    .filter((limit) => !(isLog[key[0]] && limit.value <= 0))
    .map((limit) => {
      const at = { [key]: to(key[0], limit.value) };
      return {
        line: { ...at, label: { formatter: limit.label, position: 'insideEndTop' } },
        // A corner without a value lies at the end of the axis.
        area: limit.fails === 'above' ? [at, {}] : [{}, at],
      };
    });

  // A series without data that carries the limits, so that hiding a series does not hide them.
  const limitSeries = (marks) => {
    const c = colours();
    return {
      type: bars ? 'bar' : 'scatter', stack: 'all', data: [], silent: true, z: 1, tooltip: { show: false },
      markLine: {
        silent: true, symbol: 'none', animation: false, data: marks.map((mark) => mark.line),
        lineStyle: { color: c.text, width: 1.3, type: [5, 4] },
        label: { color: c.text, fontSize: 12, fontFamily: font, textBorderColor: c.background, textBorderWidth: 3 },
        blur: { lineStyle: { opacity: 1 }, label: { opacity: 1 } },
      },
      markArea: { silent: true, animation: false, itemStyle: { color: c.shade }, blur: { itemStyle: { opacity: 1 } }, data: marks.map((mark) => mark.area).filter((area) => area) },
    };
  };

  // A label goes to the side that a rising or falling line leaves free, and stays within the axes.
  const labelLayout = (points) => ({ dataIndex, labelRect, rect }) => {
    const before = points[dataIndex - 1] ?? points[dataIndex], after = points[dataIndex + 1] ?? points[dataIndex];
    const slope = Math.sign((after.x - before.x) * (after.y - before.y));
    const grid = plot.getModel().getComponent('grid', 0).coordinateSystem.getRect();
    const wish = labelRect.x - slope * (labelRect.width + rect.width) / 2;
    const x = Math.min(Math.max(wish, grid.x + 4), grid.x + grid.width - labelRect.width - 2);
    return { hideOverlap: true, dx: x - labelRect.x, dy: slope ? 4 : 0 };
  };

  const seriesOption = (series, index) => {
    const c = colours(), look = looks[index], colour = colourOf(look);
    const emphasis = series.emphasis;
    const common = {
      name: String(index), animation: false, z: { muted: 2, plain: 3, strong: 4 }[emphasis],
      itemStyle: { color: colour, borderColor: c.background, borderWidth: 0.8, opacity: 1 },
    };
    if (series.marks.bins) {
      return {
        ...common, type: 'custom', clip: true, dimensions: ['low', 'high', 'count'],
        encode: { x: [0, 1], y: 2 }, data: series.marks.bins.map((bin) => [to('x', bin.low), to('x', bin.high), to('y', bin.count)]),
        renderItem: (params, api) => {
          if (!(series.marks.bins[params.dataIndex].count > 0)) return null;
          const [left, top] = api.coord([api.value(0), api.value(2)]);
          const [right] = api.coord([api.value(1), api.value(2)]);
          const bottom = params.coordSys.y + params.coordSys.height;
          return { type: 'rect', shape: { x: left + 0.5, y: top, width: Math.max(0.5, right - left - 1), height: bottom - top },
                   style: { fill: colour } };
        },
      };
    }
    const points = pointsOf(series.marks).filter((point) => usable(point.x, point.y));
    const lines = !series.marks.points;
    const markers = Boolean(series.marks.points ?? series.marks.line_and_points);
    const labelled = emphasis !== 'muted' && points.some((point) => point.label);
    // Plain pairs for many points: an object each would be slow.
    const plain = points.length > 5000 && !labelled;
    return {
      ...common,
      type: lines ? 'line' : 'scatter',
      data: points.map((point, at) => {
        const value = [to('x', point.x), to('y', point.y), at];
        return plain ? value : { value, name: point.label };
      }),
      symbol: markers ? look.symbol : 'none', showSymbol: markers, showAllSymbol: markers,
      symbolSize: { muted: 6, plain: 8, strong: 10 }[emphasis] * (points.length > 2000 ? 0.6 : 1),
      ...(lines ? {
        lineStyle: { color: colour, width: emphasis === 'strong' ? 3 : 2, type: look.dash.length ? look.dash : 'solid' },
        step: series.marks.steps ? 'end' : false,
      } : { large: plain, largeThreshold: 5000 }),
      label: {
        show: labelled, formatter: (item) => item.data.name ?? '', position: 'top', distance: 4, color: c.text, fontSize: 11,
        fontFamily: font, textBorderColor: c.background, textBorderWidth: 2.5, width: 190, overflow: 'truncate',
      },
      labelLayout: labelLayout(points),
      emphasis: { focus: points.length > 2000 ? 'none' : 'series', label: { show: labelled } },
      blur: { itemStyle: { opacity: 0.25 }, lineStyle: { opacity: 0.25 }, label: { opacity: 0.3 } },
    };
  };

  const measure = document.createElement('canvas').getContext('2d');
  const textWidth = (text) => {
    measure.font = `12px ${font}`;
    return measure.measureText(text).width;
  };

  // Headings, legend and colours that both kinds of chart share. `names`: the series' names for ECharts and for people.
  const base = (names) => {
    const c = colours();
    const room = element('plot').clientWidth;
    const beside = names.length > 3 && room > 820;
    const widest = Math.ceil(Math.max(0, ...names.map(([, text]) => textWidth(text)))) + 4;
    const width = Math.min(widest, beside ? 0.3 * room : 280);
    const shown = new Map(names);
    return {
      backgroundColor: c.background,
      textStyle: { fontFamily: font },
      grid: { left: 76, right: beside ? width + 66 : 24, top: 22, bottom: names.length && !beside ? 86 : 50 },
      legend: {
        show: names.length > 0, type: 'scroll', data: names.map(([name]) => name), formatter: (name) => shown.get(name),
        tooltip: { show: true, formatter: (item) => tooltip([xy?.series[item.name].label ?? shown.get(item.name)]) },
        selector: names.length > 3 ? [{ type: 'all', title: 'All' }, { type: 'inverse', title: 'Invert' }] : false,
        textStyle: { color: c.text, fontFamily: font, fontSize: 12, width, overflow: 'truncate' },
        inactiveColor: c.muted, pageIconColor: c.text, pageIconInactiveColor: c.muted,
        pageTextStyle: { color: c.faint_text }, itemWidth: 26, itemHeight: 10,
        selectorLabel: { color: c.faint_text, borderColor: c.axis, borderRadius: 4, padding: [4, 6, 2, 6], fontFamily: font },
        ...(beside ? { orient: 'vertical', left: room - width - 46, top: 8, bottom: 20 }
          : { orient: 'horizontal', left: 0, right: 0, bottom: 0 }),
      },
      tooltip: { trigger: 'item', confine: true, backgroundColor: c.background, borderColor: c.axis,
                 textStyle: { color: c.text, fontSize: 12, fontFamily: font } },
      // Out of sight: it is there for the button that zooms to a box.
      toolbox: { show: true, top: -200, feature: { dataZoom: { xAxisIndex: 0, yAxisIndex: 0, filterMode: 'none' } } },
    };
  };

  const xyOption = () => {
    const names = xy.series
      .map((series, index) => [String(index), (series.group ? `${series.group}: ` : '') + looks[index].name, series])
      .filter(([, , series]) => series.label && (pointsOf(series.marks).length || series.marks.bins?.length));
    const option = base(names);
    const marks = [...limitMarks(xy.x, 'xAxis'), ...limitMarks(xy.y, 'yAxis')];
    option.xAxis = axisOption('x', xy.x);
    option.yAxis = axisOption('y', xy.y);
    option.dataZoom = [
      { type: 'inside', xAxisIndex: 0, filterMode: 'none' },
      { type: 'inside', yAxisIndex: 0, filterMode: 'none', zoomOnMouseWheel: true },
    ];
    option.tooltip.formatter = (item) => {
      const series = xy.series[Number(item.seriesName)];
      if (series.marks.bins) {
        const { low, high, count } = series.marks.bins[item.dataIndex];
        return tooltip([`${numberText(low)} to ${numberText(high)} ${xy.x.unit}`, `${xy.y.label}: ${numberText(count)}`]);
      }
      const { x, y, hover } = pointsOf(series.marks).filter((point) => usable(point.x, point.y))[item.value[2]];
      const values = [`${xy.x.label}: ${numberText(x)} ${xy.x.unit}`, `${xy.y.label}: ${numberText(y)} ${xy.y.unit}`];
      return tooltip([series.label, ...(hover ? hover.split('\n') : values)]);
    };
    option.series = [...xy.series.map(seriesOption), limitSeries(marks)];
    return option;
  };

  const barsOption = () => {
    const c = colours();
    const parts = [...new Set(bars.bars.flatMap((bar) => bar.segments.map((segment) => segment.label)))];
    const muted = (part) => bars.bars.some((bar) => bar.segments.some((s) => s.label === part && s.emphasis === 'muted'));
    parts.sort((a, b) => muted(a) - muted(b));
    const option = base(parts.map((part, index) => [String(index), part]));
    const wideLabels = Math.min(220, 20 + 7 * Math.max(...bars.bars.map((bar) => Math.max(bar.label.length, bar.detail.length))));
    option.grid.left = wideLabels;
    option.grid.top = 22 + 18 * bars.axis.limits.length;
    option.xAxis = { ...axisOption('x', bars.axis), nameGap: 28 };
    option.yAxis = {
      type: 'category', inverse: true, data: bars.bars.map((_, index) => index), axisTick: { show: false },
      axisLine: { lineStyle: { color: c.axis } },
      axisLabel: {
        color: c.text, fontFamily: font, fontSize: 12, width: wideLabels - 16, overflow: 'truncate', interval: 'auto',
        verticalAlign: 'middle', lineHeight: 16, rich: { detail: { color: c.faint_text, fontSize: 11, lineHeight: 16 } },
        formatter: (index) => {
          const { label, detail } = bars.bars[index];
          const plain = (text) => text.replace(/[{}|]/g, ' ');
          return detail ? `${plain(label)}\n{detail|${plain(detail)}}` : plain(label);
        },
      },
    };
    option.dataZoom = [{ type: 'inside', xAxisIndex: 0, filterMode: 'none' }];
    option.tooltip.formatter = (item) => tooltip([
      bars.bars[item.dataIndex].label, `${parts[Number(item.seriesName)]}: ${numberText(item.value)} ${bars.axis.unit}`,
    ]);
    let plainCount = 0;
    option.series = parts.map((part, index) => {
      const at = muted(part) ? null : plainCount++ % c.series.length;
      return {
        type: 'bar', stack: 'all', name: String(index), animation: false, barMaxWidth: 44,
        itemStyle: { color: at === null ? c.muted : c.series[at], borderColor: c.background, borderWidth: 1 },
        label: { show: true, color: at === null ? c.text : c.on_series[at], fontSize: 11, fontFamily: font,
                 formatter: (item) => numberText(Number(item.value.toPrecision(3))) },
        labelLayout: (params) => (params.labelRect.width + 6 > params.rect.width ? { fontSize: 0 } : {}),
        data: bars.bars.map((bar) => bar.segments.filter((s) => s.label === part).reduce((sum, s) => sum + s.value, 0) || null),
      };
    });
    const marks = limitMarks(bars.axis, 'xAxis');
    // ECharts draws areas over categories askew; the lines say enough.
    marks.forEach((mark) => { mark.area = null; });
    marks.forEach((mark, index) => { mark.line.label = { ...mark.line.label, position: 'start', distance: [-4, 4 + 16 * index], align: 'right' }; });
    option.series.push(limitSeries(marks));
    return option;
  };

  const notes = () => {
    const texts = [...chart.notes];
    if (xy && (isLog.x || isLog.y)) {
      const all = xy.series.flatMap((series) => pointsOf(series.marks));
      const hidden = all.filter((point) => !usable(point.x, point.y)).length;
      if (hidden) texts.push(`Points at or below 0, not shown on the logarithmic axis: ${hidden}.`);
    }
    element('notes').replaceChildren(...texts.map((text) => {
      const row = document.createElement('p');
      row.textContent = text;
      return row;
    }));
  };

  const themeVariables = () => {
    const c = colours(), style = document.documentElement.style;
    for (const [name, key] of [['background', 'background'], ['text', 'text'], ['faint', 'faint_text'], ['axis', 'axis'], ['shade', 'shade']]) {
      style.setProperty(`--${name}`, c[key]);
    }
    style.colorScheme = c === page.dark ? 'dark' : 'light';
  };

  themeVariables();
  if (page.message) {
    element('plot').className = 'message';
    element('plot').textContent = page.message;
    notes();
    darkScreen.addEventListener('change', themeVariables);
    return;
  }

  const plot = echarts.init(element('plot'));
  let hidden = {};
  const draw = () => {
    themeVariables();
    const option = xy ? xyOption() : barsOption();
    option.legend.selected = hidden;
    plot.setOption(option, { notMerge: true });
    notes();
  };
  plot.on('legendselectchanged', (event) => { hidden = event.selected; });

  // Ticks follow the zoom.
  const followZoom = () => {
    if (!xy) return;
    const shown = (name) => plot.getModel().getComponent(`${name}Axis`, 0).axis.scale.getExtent();
    plot.setOption({ xAxis: tickOption('x', shown('x')), yAxis: tickOption('y', shown('y')) });
  };
  plot.on('datazoom', () => requestAnimationFrame(followZoom));

  const control = (label, action, pressed) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    if (pressed !== undefined) button.setAttribute('aria-pressed', pressed);
    button.addEventListener('click', () => action(button));
    element('controls').append(button);
    return button;
  };
  const toggle = (button) => {
    const pressed = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', pressed);
    return pressed;
  };
  if (xy) {
    for (const name of ['x', 'y']) {
      control(`Log ${name}`, (button) => {
        isLog[name] = toggle(button);
        draw();
      }, isLog[name]);
    }
    const box = control('Zoom to a box', (button) => {
      plot.dispatchAction({ type: 'takeGlobalCursor', key: 'dataZoomSelect', dataZoomSelectActive: toggle(button) });
    }, false);
    control('Reset zoom', () => {
      if (box.getAttribute('aria-pressed') === 'true') box.click();
      draw();
    });
  }
  control('Save as PNG', () => {
    const link = document.createElement('a');
    link.href = plot.getDataURL({ type: 'png', pixelRatio: 2, backgroundColor: colours().background });
    link.download = 'chart.png';
    link.click();
  });
  if (xy) {
    const hint = document.createElement('span');
    hint.textContent = 'Wheel to zoom, drag to move, click a name to hide it.';
    element('controls').append(hint);
  }

  draw();
  new ResizeObserver(() => { plot.resize(); draw(); }).observe(element('plot'));
  darkScreen.addEventListener('change', draw);
})();
